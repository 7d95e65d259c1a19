"""The session between agent and controller as messages: registration and reports.

Values are those of `crane.session`; orders are in `crane.wire.orders`, steps of `crun` in
`crane.wire.steps`. What does not decode raises CraneError (PROTOCOL): the two daemons are of
different versions.
"""

from __future__ import annotations

from crane.config.model import DeviceGroup, DeviceSlot
from crane.errors import CraneError, ErrorCode
from crane.session import (
    DeviceCount,
    EndCause,
    Inventory,
    JobReleased,
    Registration,
    Report,
    StepEnded,
    StepKey,
    StepStarted,
)
from crane.v1 import agent_pb2 as pb

PROTOCOL = 1
"""Version of the session; a peer of another is refused in its first frame."""
MAX_INSTANT = 1 << 62
MAX_AMOUNT = 1 << 48
"""Of CPU time (us), memory (bytes or MiB) and CPUs: sums of them stay far from what int64 holds."""
MAX_LEASE = 1e9
"""Seconds."""
MAX_EXIT = 0x7FFF
MAX_SIGNAL = 127
MAX_COUNT = 1 << 20
MAX_TEXT = 4_096
MAX_NAME = 256
MAX_RUNNING = 1 << 20
MAX_PROBLEMS = 64


def different(what: str) -> CraneError:
    """The error of a message that a peer of this version would not send."""
    return CraneError(
        ErrorCode.PROTOCOL,
        f"{what} is not understood",
        "run the same version of cranectld and craned",
    )


def key_to_wire(key: StepKey) -> pb.StepKey:
    """Key of a step."""
    return pb.StepKey(job_id=key[0], step=key[1], attempt=key[2])


def key_from_wire(message: pb.StepKey) -> StepKey:
    """Key of a step."""
    return StepKey(message.job_id, message.step, message.attempt)


def cause_from_wire(number: int) -> EndCause:
    """Why a step ended. Raises PROTOCOL."""
    try:
        return EndCause(number)
    except ValueError:
        raise different(f"end cause {number}") from None


def _cut(value: int, most: int, least: int = 0) -> int:
    """The figure, or the bound it exceeds. A host whose clock or counters are wrong must neither
    stop the controller, whose log holds int64, nor keep its jobs from ending.
    """
    return least if value < least else most if value > most else value


def _name(what: str, value: str) -> str:
    """A name that is compared later: whole, or refused. Raises PROTOCOL."""
    if len(value) > MAX_NAME:
        raise different(f"a {what} of {len(value)} characters")
    return value


CAUSES = {cause: pb.StepEnded.Cause.Value(f"CAUSE_{cause.name}") for cause in EndCause}
"""Number on the wire of each cause."""


# --- registration --------------------------------------------------------------------------------


def inventory_to_wire(inventory: Inventory) -> pb.Inventory:
    """What an agent found on its host."""
    return pb.Inventory(
        cpus=inventory.cpus,
        memory=inventory.memory,
        devices=[
            pb.DeviceGroup(name=d.name, type=d.type, count=d.count) for d in inventory.devices
        ],
        cgroup=inventory.cgroup,
        os=inventory.os,
        version=inventory.version,
        boot_time=inventory.boot_time,
        problems=inventory.problems,
        runs_as_root=inventory.runs_as_root,
        uid=inventory.uid,
    )


def inventory_from_wire(message: pb.Inventory) -> Inventory:
    """What an agent found on its host."""
    return Inventory(
        cpus=_cut(message.cpus, MAX_AMOUNT),
        memory=_cut(message.memory, MAX_AMOUNT),
        devices=tuple(
            DeviceCount(d.name[:MAX_NAME], d.type[:MAX_NAME], _cut(d.count, MAX_COUNT))
            for d in message.devices[:MAX_NAME]
        ),
        cgroup=message.cgroup[:MAX_NAME],
        os=message.os[:MAX_NAME],
        version=message.version[:MAX_NAME],
        boot_time=_cut(message.boot_time, MAX_INSTANT),
        problems=tuple(text[:MAX_TEXT] for text in message.problems[:MAX_PROBLEMS]),
        runs_as_root=message.runs_as_root,
        uid=message.uid,
    )


def hello_to_wire(
    registration: Registration, nonce: bytes, first_report: int, known_epoch: int
) -> pb.Hello:
    """First frame of an agent; `first_report`: oldest one in its outbox, 0: none."""
    return pb.Hello(
        node=registration.node,
        nonce=nonce,
        address=registration.address,
        incarnation=registration.incarnation,
        boot_id=registration.boot_id,
        spool_id=registration.spool_id,
        inventory=inventory_to_wire(registration.inventory),
        running=[key_to_wire(key) for key in registration.running],
        first_report=first_report,
        protocol=PROTOCOL,
        known_epoch=known_epoch,
        held_lease=registration.held_lease,
        host_id=registration.host_id,
    )


def registration_from_wire(message: pb.Hello) -> Registration:
    """How an agent introduces itself. Raises PROTOCOL: another version, or figures out of bounds."""
    if message.protocol != PROTOCOL:
        raise different(f"version {message.protocol} of the session (here: {PROTOCOL})")
    if not 0 <= message.held_lease <= MAX_LEASE:
        raise different(f"a lease of {message.held_lease} s")
    if len(message.running) > MAX_RUNNING:
        raise different(f"a host with {len(message.running)} running steps")
    return Registration(
        node=_name("node name", message.node),
        address=_name("address", message.address),
        incarnation=_name("incarnation", message.incarnation),
        boot_id=_name("boot id", message.boot_id),
        spool_id=_name("spool id", message.spool_id),
        inventory=inventory_from_wire(message.inventory),
        running=tuple(key_from_wire(key) for key in message.running),
        held_lease=message.held_lease,
        host_id=_name("host id", message.host_id),
    )


def device_to_wire(group: DeviceGroup) -> pb.DeviceDeclaration:
    """Device slots as the configuration declares them for the node."""
    message = pb.DeviceDeclaration(
        name=group.name, type=group.type, manager_files=group.manager_files
    )
    for slot in group.slots:
        message.slots.add(files=slot.files, numa=slot.numa)
    for name, template in group.environment:
        message.environment.add(name=name, template=template)
    return message


def device_from_wire(message: pb.DeviceDeclaration) -> DeviceGroup:
    """Device slots as the configuration declares them for the node."""
    return DeviceGroup(
        name=message.name,
        type=message.type,
        slots=tuple(DeviceSlot(tuple(slot.files), slot.numa) for slot in message.slots),
        environment=tuple((v.name, v.template) for v in message.environment),
        manager_files=tuple(message.manager_files),
    )


# --- reports -------------------------------------------------------------------------------------


def report_to_wire(seq: int, report: Report) -> pb.Report:
    """A report with its number in the outbox."""
    if isinstance(report, StepEnded):
        return pb.Report(
            seq=seq,
            ended=pb.StepEnded(
                key=pb.StepKey(job_id=report.key[0], step=report.key[1], attempt=report.key[2]),
                cause=CAUSES[report.cause],
                exit_code=report.exit_code,
                signal=report.signal,
                message=report.message,
                start_time=report.start_time,
                end_time=report.end_time,
                cpu_us=report.cpu_us,
                memory_peak=report.memory_peak,
                released=report.released,
            ),
        )
    if isinstance(report, StepStarted):
        started = pb.StepStarted(key=key_to_wire(report.key), time=report.time, pid=report.pid)
        return pb.Report(seq=seq, started=started)
    released = pb.JobReleased(job_id=report.job_id, attempt=report.attempt)
    return pb.Report(seq=seq, released=released)


def report_from_wire(message: pb.Report) -> tuple[int, Report]:
    """Number in the outbox, and the report, its figures cut to what the log can hold."""
    what = message.WhichOneof("what")
    if what == "ended":
        ended = message.ended
        return message.seq, StepEnded(
            key=key_from_wire(ended.key),
            cause=cause_from_wire(ended.cause),
            exit_code=_cut(ended.exit_code, MAX_EXIT, -MAX_EXIT),
            signal=_cut(ended.signal, MAX_SIGNAL),
            message=ended.message[:MAX_TEXT],
            start_time=_cut(ended.start_time, MAX_INSTANT),
            end_time=_cut(ended.end_time, MAX_INSTANT),
            cpu_us=_cut(ended.cpu_us, MAX_AMOUNT),
            memory_peak=_cut(ended.memory_peak, MAX_AMOUNT),
            released=ended.released,
        )
    if what == "started":
        started = message.started
        time = _cut(started.time, MAX_INSTANT)
        return message.seq, StepStarted(key_from_wire(started.key), time, started.pid)
    if what == "released":
        return message.seq, JobReleased(message.released.job_id, message.released.attempt)
    raise different("a report")
