"""Steps that `crun` asks for, as messages: the request on its way, and the answer."""

from __future__ import annotations

from collections.abc import Iterable

from crane.errors import CraneError
from crane.jobspec import BlobRef
from crane.session import StepKey, StepLayout, StepRequest
from crane.v1 import agent_pb2 as pb
from crane.wire.errors import from_wire, to_wire


def argv_to_blob(argv: Iterable[str]) -> bytes:
    """A command line as it is stored: arguments in UTF-8, each ended by NUL (as in proc(5), cmdline).

    They must not contain NUL themselves. None are no bytes; an empty one is a NUL.
    """
    return b"".join([argument.encode(errors="surrogateescape") + b"\0" for argument in argv])


def argv_from_blob(blob: bytes) -> tuple[str, ...]:
    """The arguments again; bytes that are no UTF-8 become surrogates (os.fsdecode)."""
    return tuple(blob.decode(errors="surrogateescape").split("\0")[:-1])


def step_request_from_wire(
    message: pb.CreateStepRequest, argv: BlobRef, environment: BlobRef
) -> StepRequest:
    """What `crun` asks for inside a job, its command line and environment stored there."""
    return StepRequest(
        ntasks=message.ntasks,
        min_nodes=message.min_nodes,
        ntasks_per_node=message.ntasks_per_node,
        cpus_per_task=message.cpus_per_task,
        nodelist=tuple(message.nodelist),
        exclude=tuple(message.exclude),
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


def step_reply_to_wire(key: StepKey, layout: StepLayout) -> pb.CreateStepReply:
    """The step was made, and runs there."""
    return pb.CreateStepReply(
        step=key.step,
        attempt=key.attempt,
        nodes=layout.nodes,
        tasks_per_node=layout.tasks_per_node,
    )


def step_refusal_to_wire(error: CraneError) -> pb.CreateStepReply:
    """The step was refused (also: the signal was)."""
    return pb.CreateStepReply(error=to_wire(error.code.name, error.message, error.hint))


def step_reply_from_wire(job_id: int, message: pb.CreateStepReply) -> tuple[StepKey, StepLayout]:
    """Key and layout of the step made in the job. Raises the CraneError it was refused with."""
    if message.error.code:
        raise from_wire(message.error)
    layout = StepLayout(tuple(message.nodes), tuple(message.tasks_per_node))
    return StepKey(job_id, message.step, message.attempt), layout
