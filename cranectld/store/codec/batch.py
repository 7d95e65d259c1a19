"""A batch of events as one row of the log, and back."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from crane.errors import CraneError, ErrorCode
from crane.log.v1 import log_pb2
from cranectld.core.events import Logged
from cranectld.store.codec.columns import ReadTables, Tables, deltas, undelta, write_column
from cranectld.store.codec.events import EVENTS, READERS

FORMAT = 1
"""Of what this version writes; newer batches are refused."""


def encode_batch(events: Sequence[Logged], epoch: int) -> bytes:
    """Events with consecutive sequence numbers as the body of one log row.

    `epoch` is the controller's, >= 0. Texts must be valid Unicode (no lone surrogates).
    """
    assert events, "a batch has at least one event"
    first, last = events[0], events[-1]
    assert last.seq - first.seq == len(events) - 1, "sequence numbers are consecutive"
    tables = Tables(base_time=first.time)
    batch = log_pb2.Batch(
        format=FORMAT, epoch=epoch, first_seq=first.seq, last_seq=last.seq, base_time=first.time
    )
    if last.time != first.time:
        times = [e.time for e in events]
        write_column(batch, "time_delta", deltas(times, first.time))
    add = batch.events.add
    for logged in events:
        name, write, _ = EVENTS[type(logged.event)]
        message = getattr(add(), name)
        message.SetInParent()
        write(message, logged.event, tables)
    tables.write(batch)
    return batch.SerializeToString()


def decode_batch(body: bytes) -> list[Logged]:
    """The events of a log row. Raises CraneError STORE_CORRUPT, or STORE_NEWER."""
    batch = log_pb2.Batch()
    try:
        batch.ParseFromString(body)
    except DecodeError as error:
        raise _corrupt("it is not a batch of events") from error
    _check_format(batch.format)
    count = len(batch.events)
    if count == 0 or batch.last_seq - batch.first_seq != count - 1:
        raise _corrupt(f"it says {batch.first_seq}..{batch.last_seq} and holds {count} events")
    tables = ReadTables(batch, base_time=batch.base_time)
    times = [batch.base_time] * count
    if batch.time_delta:
        times = list(undelta(batch.time_delta, batch.base_time))
    if len(times) != count:
        raise _corrupt(f"it has {len(times)} times for {count} events")
    out: list[Logged] = []
    seqs = range(batch.first_seq, batch.last_seq + 1)
    for seq, time, message in zip(seqs, times, batch.events, strict=True):
        name = message.WhichOneof("what")
        if name is None:
            raise _newer(f"event {seq} is of a kind this version does not know")
        try:
            out.append(Logged(seq, time, READERS[name](getattr(message, name), tables)))
        except (LookupError, ValueError) as error:
            text = f"event {seq} ({name}) holds a value this version does not know: {error}"
            raise _newer(text) from error
    return out


def _check_format(found: int) -> None:
    if found > FORMAT:
        raise _newer(f"it has format {found}, this version reads up to {FORMAT}")
    if found < 1:
        raise _corrupt("it has no format number")


def _corrupt(why: str) -> CraneError:
    return CraneError(
        ErrorCode.STORE_CORRUPT,
        f"a row of the log cannot be read: {why}",
        "restore the state directory from a backup",
    )


def _newer(why: str) -> CraneError:
    return CraneError(
        ErrorCode.STORE_NEWER,
        f"the log was written by a newer version: {why}",
        "start the version that wrote it, or a later one",
    )
