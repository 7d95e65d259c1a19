"""Orders of the controller as messages.

Of a LaunchStep only what an agent needs travels (not the job's comment, dependency or priority);
scripts, command lines and environments travel once per message, in its table of blobs, and at the
receiver a BlobRef's index is its place in that table. What does not decode raises CraneError
(PROTOCOL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from crane.jobspec import NO_BLOB, BlobRef, Component, JobSpec, Submission
from crane.session import (
    ArrayPlace,
    EndJob,
    LaunchStep,
    Order,
    SetTimeLimit,
    SignalJob,
    StepKey,
    StepLayout,
    StepRequest,
)
from crane.v1 import agent_pb2 as pb
from crane.v1 import types_pb2
from crane.wire import jobspec as wire
from crane.wire.session import CAUSES, cause_from_wire, different, key_to_wire

_TABLE = 1
"""`BlobRef.pack` of a reference into the message's own table."""


def blob_refs(orders: Iterable[Order]) -> list[BlobRef]:
    """Blobs whose bytes `orders_to_wire` will ask for, each once, in order."""
    refs: dict[BlobRef, None] = {}
    for order in orders:
        if isinstance(order, LaunchStep):
            request, submission = order.request, order.submission
            refs[submission.script if request is None else request.argv] = None
            refs[submission.environment if request is None else request.environment] = None
    refs.pop(NO_BLOB, None)
    return list(refs)


def orders_to_wire(
    message: pb.ControllerMessage, orders: Iterable[Order], blobs: Mapping[BlobRef, bytes]
) -> None:
    """Add orders, and the blobs they refer to, to a message; KeyError if a blob is missing."""
    table = _BlobTable(message, blobs)
    for order in orders:
        if isinstance(order, LaunchStep):
            message.orders.add(launch=_launch_to_wire(order, table))
        elif isinstance(order, EndJob):
            message.orders.add(
                end_job=pb.EndJob(
                    job_id=order.job_id, attempt=order.attempt, cause=CAUSES[order.cause]
                )
            )
        elif isinstance(order, SignalJob):
            message.orders.add(
                signal=pb.SignalJob(
                    job_id=order.job_id,
                    attempt=order.attempt,
                    step=order.step,
                    signal=order.signal,
                    batch_only=order.batch_only,
                )
            )
        else:
            message.orders.add(
                set_time_limit=pb.SetTimeLimit(
                    job_id=order.job_id, attempt=order.attempt, end_time=order.end_time
                )
            )


def orders_from_wire(message: pb.ControllerMessage) -> tuple[Order, ...]:
    """The orders of a message; BlobRefs in them index `message.blobs`."""
    blobs = message.blobs
    return tuple(_order_from_wire(order, blobs) for order in message.orders)


class _BlobTable:
    """Numbers the blobs of one message, each put in once."""

    def __init__(self, message: pb.ControllerMessage, blobs: Mapping[BlobRef, bytes]) -> None:
        self._table = message.blobs
        self._blobs = blobs
        self._places: dict[BlobRef, int] = {}

    def place(self, ref: BlobRef) -> int:
        """1 + index; 0: no blob."""
        if ref == NO_BLOB:
            return 0
        known = self._places.get(ref)
        if known is None:
            self._table.append(self._blobs[ref])
            known = self._places[ref] = len(self._table)
        return known


def _launch_to_wire(order: LaunchStep, table: _BlobTable) -> pb.LaunchStep:
    submission = order.submission
    spec = submission.spec
    message = pb.LaunchStep(
        key=key_to_wire(order.key),
        uid=order.uid,
        gid=order.gid,
        user=order.user,
        name=submission.name,
        args=submission.args,
        work_dir=spec.work_dir,
        stdin=spec.stdin,
        stdout=spec.stdout,
        stderr=spec.stderr,
        open_mode=wire.open_mode_to_wire(spec.open_mode),
        end_time=order.end_time,
        kill_grace=order.kill_grace,
        signal=spec.signal,
        allocation=[wire.share_to_wire(share) for share in order.shares],
        addresses=order.addresses,
        restarts=order.restarts,
        partition=order.partition,
        account=spec.account,
        qos=spec.qos,
        submit_dir=spec.submit_dir or spec.work_dir,
        submit_host=spec.submit_host,
        start_time=order.start_time,
        component=wire.component_to_wire(order.component),
        reservation=spec.reservation,
        umask=spec.umask,
    )
    if order.array is not None:
        message.array_job_id = order.array.array_id
        message.array_task = order.array.index
        message.array.CopyFrom(wire.array_to_wire(order.array.spec))
    if order.request is None:
        message.script = table.place(submission.script)
        message.environment = table.place(submission.environment)
    else:
        _crun_to_wire(order.request, order.layout, message.crun)
        message.crun.argv = table.place(order.request.argv)
        message.environment = table.place(order.request.environment)
        message.crun.name = order.request.name
        message.crun.work_dir = order.request.work_dir
    return message


def _crun_to_wire(request: StepRequest, layout: StepLayout | None, crun: pb.StepLaunch) -> None:
    assert layout is not None, "a step of crun has a layout"
    crun.endpoint = request.endpoint
    crun.ticket = request.ticket
    crun.ntasks = layout.ntasks
    crun.nodes.extend(layout.nodes)
    crun.tasks_per_node.extend(layout.tasks_per_node)
    crun.cpus_per_task = request.cpus_per_task
    crun.rendezvous = request.rendezvous
    crun.overlap = request.overlap
    crun.stdin_mode = request.stdin_mode
    crun.ntasks_per_node = request.ntasks_per_node


def _order_from_wire(message: pb.Order, blobs: Sequence[bytes]) -> Order:
    what = message.WhichOneof("what")
    if what == "launch":
        return _launch_from_wire(message.launch, blobs)
    if what == "end_job":
        end = message.end_job
        return EndJob(end.job_id, end.attempt, cause_from_wire(end.cause))
    if what == "signal":
        sig = message.signal
        step = sig.step if sig.HasField("step") else None
        return SignalJob(sig.job_id, sig.attempt, sig.signal, step, sig.batch_only)
    if what == "set_time_limit":
        limit = message.set_time_limit
        return SetTimeLimit(limit.job_id, limit.attempt, limit.end_time)
    raise different("an order")


def _ref(place: int, blobs: Sequence[bytes]) -> BlobRef:
    if place > len(blobs):
        raise different(f"blob {place} of {len(blobs)}")
    return BlobRef(_TABLE, place - 1) if place else NO_BLOB


def _launch_from_wire(message: pb.LaunchStep, blobs: Sequence[bytes]) -> LaunchStep:
    key = message.key
    spec = JobSpec(
        components=(_component(message.component.SerializeToString()),),
        account=message.account,
        qos=message.qos,
        reservation=message.reservation,
        work_dir=message.work_dir,
        stdin=message.stdin,
        stdout=message.stdout,
        stderr=message.stderr,
        open_mode=wire.open_mode_from_wire(message.open_mode),
        signal=message.signal,
        submit_host=message.submit_host,
        submit_dir=message.submit_dir,
        umask=wire.umask_from_wire(message),
    )
    environment = _ref(message.environment, blobs)
    request, layout = None, None
    if message.HasField("crun"):
        argv = _ref(message.crun.argv, blobs)
        request, layout = _crun_from_wire(message.crun, argv, environment)
        environment = NO_BLOB
    array = None
    if message.array_job_id:
        spans = wire.array_from_wire(message.array)
        array = ArrayPlace(message.array_job_id, message.array_task, spans)
    if not message.allocation or len(message.allocation) != len(message.addresses):
        raise different("a launch order's allocation")
    return LaunchStep(
        key=StepKey(key.job_id, key.step, key.attempt),
        uid=message.uid,
        gid=message.gid,
        user=message.user,
        submission=Submission(
            spec=spec,
            name=message.name,
            script=_ref(message.script, blobs),
            environment=environment,
            args=tuple(message.args),
        ),
        shares=tuple(wire.share_from_wire(share) for share in message.allocation),
        addresses=tuple(message.addresses),
        partition=message.partition,
        start_time=message.start_time,
        end_time=message.end_time,
        kill_grace=message.kill_grace,
        array=array,
        restarts=message.restarts,
        request=request,
        layout=layout,
    )


@lru_cache(maxsize=256)
def _component(data: bytes) -> Component:
    """Jobs come in rows of equal shape: their resources are one value."""
    return wire.component_from_wire(types_pb2.Component.FromString(data))


def _crun_from_wire(
    message: pb.StepLaunch, argv: BlobRef, environment: BlobRef
) -> tuple[StepRequest, StepLayout]:
    if len(message.nodes) != len(message.tasks_per_node):
        raise different("a step's layout")
    request = StepRequest(
        ntasks=message.ntasks,
        ntasks_per_node=message.ntasks_per_node,
        cpus_per_task=message.cpus_per_task,
        name=message.name,
        argv=argv,
        environment=environment,
        work_dir=message.work_dir,
        endpoint=message.endpoint,
        ticket=message.ticket,
        rendezvous=message.rendezvous,
        overlap=message.overlap,
        stdin_mode=message.stdin_mode,
    )
    return request, StepLayout(tuple(message.nodes), tuple(message.tasks_per_node))
