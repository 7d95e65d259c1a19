"""What the projector says the controller may delete.

The log's file has one writer, the controller: a projector that stopped in the middle of a write of
its own would stop the controller too. So it only leaves this note, and the controller deletes a few
rows at a time when it has nothing else to write.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from cranectld.store.files import replace_file

MAX_AGE = 3600.0
"""Seconds after which a note is not acted on: jobs submitted since may refer to packs it names, and
the controller remembers for a limited time which packs those are."""

_NAME = "reclaim.json"


@dataclass(frozen=True, slots=True)
class Reclaim:
    """`log_through`: rows up to this event are covered by snapshots; `packs`: no live job or step
    needs them.
    """

    log_through: int = 0
    packs: tuple[int, ...] = ()


def write_reclaim(state_dir: str, value: Reclaim) -> None:
    """Leave the note. Raises OSError."""
    body = json.dumps({"log_through": value.log_through, "packs": value.packs})
    replace_file(os.path.join(state_dir, _NAME), [body.encode("ascii")])


def read_reclaim(state_dir: str) -> Reclaim:
    """The note; nothing to delete where there is none, it is old, or it makes no sense."""
    try:
        with open(os.path.join(state_dir, _NAME), "rb") as source:
            if abs(time.time() - os.fstat(source.fileno()).st_mtime) > MAX_AGE:
                return Reclaim()
            found = json.loads(source.read(16 << 20))
        return Reclaim(int(found["log_through"]), tuple(int(p) for p in found["packs"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Reclaim()
