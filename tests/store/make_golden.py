"""Makes a golden log of the present format: `python tests/store/make_golden.py NAME`.

Golden logs are frozen: one that exists is never made again, for it stands for logs that somebody
has. Every later version must read and fold it to the same result (test_golden_logs.py). When the
history below gains an event or a field, it is written under a further name: v1, v1-2, v1-3, ... for
additions to format 1, v2 for the next format. It has at least one event of every kind.

A file is a sequence of frames: length (u32), crc32 (u32), body of a log row, little endian. Beside it
lies what the fold must come to, as JSON.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

from crane.config.model import (
    ClusterConfig,
    DeviceGroup,
    DeviceSlot,
    NodeConfig,
    PartitionConfig,
    Timeouts,
)
from crane.jobspec import (
    BATCH_STEP,
    UNLIMITED,
    ArraySpec,
    BlobRef,
    Component,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    Submission,
)
from crane.session import (
    DeviceCount,
    EndCause,
    Inventory,
    NodeShare,
    Registration,
    SlotShare,
    StepKey,
    StepLayout,
    StepRequest,
)
from crane.states import JobState, Reason
from cranectld.core import events as ev
from cranectld.core.apply import apply
from cranectld.core.commands import PastJob
from cranectld.core.state import State
from cranectld.store.codec import decode_batch, encode_batch

FOLDER = Path(__file__).parent / "golden"
NS = 1_000_000_000
START = 1_790_000_000 * NS
NODES = ("gpu01", "gpu02", "cpu01")


def history() -> list[list[ev.Logged]]:
    """Batches of a small cluster's day."""
    out: list[list[ev.Logged]] = []
    seq = 0
    for i, events in enumerate((*beginnings(), *lives(), *ends())):
        time = START + i * 7 * NS + i
        out.append([ev.Logged(seq + k + 1, time + 1000 * k, e) for k, e in enumerate(events)])
        seq += len(events)
    return out


def beginnings() -> list[list[ev.Event]]:
    """The cluster is configured, nodes register, jobs of every kind are submitted."""
    gpus = DeviceGroup(
        "gpu",
        "a100",
        (DeviceSlot(("/dev/g0",), 0), DeviceSlot(("/dev/g1",), -1)),
        (("CUDA_VISIBLE_DEVICES", "{indices}"),),
        ("/dev/gctl",),
    )
    config = ClusterConfig(
        name="golden",
        nodes=tuple(
            NodeConfig(
                name,
                f"10.0.0.{i}",
                8000,
                16000,
                (Gres("gpu", "a100", 2),) if name.startswith("gpu") else (),
                (gpus,) if name.startswith("gpu") else (),
                ("ib", "höhe"),
                2,
                "s1",
            )
            for i, name in enumerate(NODES)
        ),
        partitions=(
            PartitionConfig("batch", NODES, default=True, default_time=3600),
            PartitionConfig("long", NODES[2:], max_time=UNLIMITED, allow_accounts=("proj",)),
        ),
        timeouts=Timeouts(heartbeat=2.5, lost_contact="kill"),
        operators=("op",),
    )
    registered: list[ev.Event] = [
        ev.NodeRegistered(
            Registration(
                name,
                f"10.0.0.{i}",
                f"inc{i}",
                f"boot{i}",
                f"spool{i}",
                Inventory(
                    8000,
                    16000,
                    (DeviceCount("gpu", "a100", 2),) if name.startswith("gpu") else (),
                    "v2",
                    "Linux 6.1",
                    "0.1.0",
                    START - NS,
                    runs_as_root=True,
                ),
            ),
            8000,
            16000,
            "",
        )
        for i, name in enumerate(NODES)
    ]
    return [[ev.EpochStarted(1), ev.ConfigApplied(config)], registered, submissions()]


def submissions() -> list[ev.Event]:
    """Jobs 1..6: plain, with everything, an array, dependent, singleton, to be held."""
    plain = JobSpec(partitions=("batch",), work_dir="/home/ann", time_limit=600)
    full = JobSpec(
        components=(
            Component(
                2, 4, 8, 4, 1500, 2048, 0, (Gres("gpu", "a100", 1),), True, "ib|(höhe&ssd)",
                ("gpu01",), ("cpu01",),
            ),
        ),
        partitions=("batch", "long"), account="proj", qos="high", reservation="res",
        licences=(("matlab", 2),), comment="Größe ✓", wckey="w", time_limit=UNLIMITED,
        time_min=60, priority=77, nice=-3, requeue=False, work_dir="/scratch/ann",
        stdin="in", stdout="%x-%j.out", stderr="%x-%j.err", signal="B:USR1@60",
        mail_type="END", mail_user="ann@example.org", submit_host="login1", export="NONE",
        switches="1@60", extra='{"a":1}',
    )  # fmt: skip
    after = Dependency(
        (
            DependencyTerm(DependencyKind.AFTER_OK, 1),
            DependencyTerm(DependencyKind.AFTER, 900, 4, 120),
        )
    )
    alone = Dependency((DependencyTerm(DependencyKind.SINGLETON),), any_of=True)
    jobs = (
        Submission(plain, "one", BlobRef(1, 0), BlobRef(1, 1), command="one.sh"),
        Submission(full, "all", BlobRef(1, 2), BlobRef(1, 1), ("x", "y z"), command="(stdin)"),
        Submission(plain, "array", BlobRef(1, 0), array=ArraySpec(((0, 8, 2), (20, 20, 1)), 3)),
        Submission(plain, "later", BlobRef(1, 0), dependency=after),
        Submission(plain, "one", dependency=alone),
        Submission(plain, "held"),
    )
    past = (PastJob(900, 4, JobState.COMPLETED, 0, START - 9 * NS, START - 5 * NS),)
    return [ev.JobsSubmitted(1, 1000, 1000, "ann", jobs, (5, 77, 5, 5, 5, 5), past)]


def lives() -> list[list[ev.Event]]:
    """Jobs are held, changed, started; one gets a step of its own."""
    wide = (
        NodeShare("gpu01", 8000, 2048, (SlotShare("gpu", "a100", (1,)),), 4),
        NodeShare("gpu02", 8000, 2048, (SlotShare("gpu", "a100", (0,)),), 4),
    )
    small = (NodeShare("cpu01", 1000, 100),)
    changed = JobSpec(partitions=("long",), work_dir="/home/ann", time_limit=900)
    return [
        [ev.JobsHeld((ev.Target(6), ev.Target(3, ((4, 4),))), by_operator=True)],
        [ev.JobUpdated(6, changed, "renamed", 9, None, 0, 0), ev.JobsReleased((ev.Target(6),))],
        [
            ev.TasksStarted(
                (
                    ev.TaskStart(1, 1, small, START + 700 * NS, "batch"),
                    ev.TaskStart(2, 1, wide, 0, "batch"),
                    ev.TaskStart(7, 1, small, START + 701 * NS, "batch", 3, 0),
                    ev.TaskStart(8, 1, small, START + 702 * NS, "batch", 3, 2),
                )
            )
        ],
        [
            ev.StepsRunning(
                (
                    ev.StepRunning(StepKey(1, BATCH_STEP, 1), "cpu01", START + 60 * NS, 4242),
                    ev.StepRunning(StepKey(2, BATCH_STEP, 1), "gpu01", START + 61 * NS, 77),
                )
            )
        ],
        [
            ev.StepCreated(
                StepKey(2, 0, 1),
                StepRequest(
                    8, 2, 4, 1000, ("gpu01",), ("cpu01",), "train", BlobRef(2, 0), BlobRef(1, 1),
                    "/scratch/ann", "tcp://10.0.0.0:5", b"ticket", "torch", True, "none",
                ),
                StepLayout(("gpu01", "gpu02"), (4, 4)),
            )
        ],
    ]  # fmt: skip


def ends() -> list[list[ev.Event]]:
    """Jobs end in several ways; nodes fail; an old job is forgotten."""

    def step(job: int, node: str, code: int = 0, number: int = BATCH_STEP, *, last: bool = True):  # type: ignore[no-untyped-def]
        return ev.StepEnd(
            StepKey(job, number, 1), node, EndCause.EXIT, code, 0, "said so" if code else "",
            START + 60 * NS, START + 90 * NS, 1_500_000, 64 << 20, last,
        )  # fmt: skip

    def end(job: int, state: JobState, reason: Reason, code: int = 0, **more: Any) -> ev.JobEnd:
        return ev.JobEnd(job, 1, state, reason, code, 0, **more)

    return [
        [
            ev.StepsEnded((step(1, "cpu01"), step(7, "cpu01", 3))),
            ev.JobsEnded(
                (
                    end(1, JobState.COMPLETED, Reason.NONE),
                    end(7, JobState.FAILED, Reason.NON_ZERO_EXIT_CODE, 3),
                )
            ),
        ],
        [ev.JobsEnding((ev.JobEnding(2, 1, JobState.CANCELLED, Reason.CANCELLED, by_uid=1000),))],
        [ev.StepsEnded((step(2, "gpu01", 1, 0, last=False), step(2, "gpu01", 15)))],
        [
            ev.SharesReleased((ev.ShareReleased(2, 1, "gpu02"),)),
            ev.JobsEnded((end(2, JobState.CANCELLED, Reason.CANCELLED, 15, by_uid=1000),)),
        ],
        [
            ev.NodeLost("cpu01", START + 80 * NS, START + 200 * NS),
            ev.JobsEnding(
                (ev.JobEnding(8, 1, JobState.NODE_FAIL, Reason.NODE_FAIL, requeue=True),)
            ),
            ev.JobsEnded((end(8, JobState.NODE_FAIL, Reason.NODE_FAIL, requeue=True),)),
        ],
        [ev.NodeChanged("gpu02", "drain", "fan", "op")],
        [ev.ArrayTasksCancelled(3, ((3, 5),), 0)],
        [ev.JobsRequeued((1,), hold=True)],
        [ev.JobsForgotten((2,))],
        [ev.EpochStarted(2)],
    ]


def pack(batches: list[list[ev.Logged]]) -> bytes:
    """The file of these batches."""
    bodies = [encode_batch(batch, epoch=1) for batch in batches]
    return b"".join(struct.pack("<II", len(b), zlib.crc32(b)) + b for b in bodies)


def unpack(content: bytes) -> list[list[ev.Logged]]:
    """The batches of a file."""
    out, place = [], 0
    while place < len(content):
        size, checksum = struct.unpack_from("<II", content, place)
        body = content[place + 8 : place + 8 + size]
        assert zlib.crc32(body) == checksum, "the golden file itself is damaged"
        out.append(decode_batch(body))
        place += 8 + size
    return out


def outcome(batches: list[list[ev.Logged]]) -> dict[str, Any]:
    """What the fold comes to, in terms that later versions still have."""
    state = State()
    kinds: dict[str, int] = {}
    for logged in (logged for batch in batches for logged in batch):
        kinds[type(logged.event).__name__] = kinds.get(type(logged.event).__name__, 0) + 1
        apply(state, logged)
    return {
        "events": kinds,
        "seq": state.seq,
        "time": state.time,
        "epoch": state.epoch,
        "next_job_id": state.next_job_id,
        "jobs": {
            str(job.job_id): [job.state.name, job.reason.name, job.submission.name, job.attempt]
            for job in state.jobs.values()
        },
        "nodes": {
            node.config.name: [node.state.name, node.drain, node.cpus_used, list(node.jobs)]
            for node in state.nodes.values()
        },
    }


def main() -> None:
    """Write the golden log of this name, and what it must come to. Never over one that exists."""
    name = sys.argv[1]
    batches = history()
    with open(FOLDER / f"{name}.crlog", "xb") as file:
        file.write(pack(batches))
    text = json.dumps(outcome(batches), indent=1, sort_keys=True)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
