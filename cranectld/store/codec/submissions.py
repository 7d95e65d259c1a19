"""Submissions and node shares by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from crane.jobspec import NO_BLOB, ArraySpec, BlobRef, Dependency, Submission
from crane.log.v1 import log_pb2
from crane.session import NodeShare, SlotShare
from cranectld.store.codec.columns import (
    Column,
    Kind,
    ReadTables,
    Rows,
    Tables,
    expand,
    write_column,
)
from cranectld.store.codec.mapper import mapper_of

DEPENDENCY = mapper_of(Dependency, log_pb2.Dependency.DESCRIPTOR)
ARRAY = mapper_of(ArraySpec, log_pb2.ArraySpec.DESCRIPTOR)
_SLOTS = mapper_of(SlotShare, log_pb2.SlotShare.DESCRIPTOR)
_SHARES = Rows(
    NodeShare,
    (
        Column("node", "node", Kind.TEXT),
        Column("cpus", "cpus"),
        Column("memory", "memory"),
        Column("tasks", "tasks"),
    ),
)


def write_submissions(message: Any, jobs: Sequence[Submission], tables: Tables) -> None:
    """Fill a `Submissions` message."""
    spec, text = tables.spec, tables.text
    write_column(message, "spec", [spec(j.spec) for j in jobs])
    write_column(message, "name", [text(j.name) for j in jobs])
    write_column(message, "script_pack", [j.script.pack for j in jobs])
    write_column(message, "script_index", [j.script.index for j in jobs])
    write_column(message, "environment_pack", [j.environment.pack for j in jobs])
    write_column(message, "environment_index", [j.environment.index for j in jobs])
    write_column(message, "command", [text(j.command) for j in jobs])
    for row, job in enumerate(jobs):
        if job.args or job.dependency is not None or job.array is not None:
            rare = message.rare.add(row=row, args=job.args)
            if job.dependency is not None:
                rare.dependency.SetInParent()
                DEPENDENCY.fill(rare.dependency, job.dependency)
            if job.array is not None:
                rare.array.SetInParent()
                ARRAY.fill(rare.array, job.array)


def read_submissions(message: Any, count: int, tables: ReadTables) -> list[Submission]:
    """The submissions of a `Submissions` message."""
    specs, texts = tables.specs, tables.texts
    args: list[tuple[str, ...]] = [()] * count
    dependencies: list[Dependency | None] = [None] * count
    arrays: list[ArraySpec | None] = [None] * count
    for rare in message.rare:
        args[rare.row] = tuple(rare.args)
        if rare.HasField("dependency"):
            dependencies[rare.row] = DEPENDENCY.parse(rare.dependency)
        if rare.HasField("array"):
            arrays[rare.row] = ARRAY.parse(rare.array)
    return list(
        map(
            Submission,
            map(specs.__getitem__, expand(message.spec, count)),
            map(texts.__getitem__, expand(message.name, count)),
            _blobs(message.script_pack, message.script_index, count),
            _blobs(message.environment_pack, message.environment_index, count),
            args,
            dependencies,
            arrays,
            map(texts.__getitem__, expand(message.command, count)),
        )
    )


def _blobs(packs: Any, indices: Any, count: int) -> Iterable[BlobRef]:
    if not packs and not indices:
        return [NO_BLOB] * count
    if count > 1 and len(packs) <= 1 and len(indices) <= 1:  # all the same: one object
        return [BlobRef(*packs or (0,), *indices or (0,))] * count
    return map(BlobRef, expand(packs, count), expand(indices, count))


def write_shares(message: Any, shares: Sequence[NodeShare], tables: Tables) -> None:
    """Fill a `NodeShares` message."""
    message.count = len(shares)
    write_column(message, "node", [tables.text(s.node) for s in shares])
    write_column(message, "cpus", [s.cpus for s in shares])
    write_column(message, "memory", [s.memory for s in shares])
    write_column(message, "tasks", [s.tasks for s in shares])
    for row, share in enumerate(shares):
        for slot in share.slots:
            _SLOTS.fill(message.slots.add(row=row).share, slot)


def read_shares(message: Any, tables: ReadTables) -> list[NodeShare]:
    """The shares of a `NodeShares` message."""
    count = message.count
    nodes, cpus, memory, tasks = _SHARES.read_columns(message, count, tables)
    slots: list[tuple[SlotShare, ...]] = [()] * count
    for item in message.slots:
        slots[item.row] = (*slots[item.row], _SLOTS.parse(item.share))
    return list(map(NodeShare, nodes, cpus, memory, slots, tasks))
