"""cgroups that the agents of a development cluster left behind: only agents that were killed do."""

from __future__ import annotations

import os
import signal
import time

from crane.agentgroup import agent_group

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/sys/fs/cgroup"
SECONDS = 5.0
_LOOK = 0.01


def remove(home: str, root: str = ROOT, own: str | None = None) -> list[str]:
    """End what runs in groups of the cluster's agents and remove them; those that are left.

    `own`: the group in the v2 tree that this process is in, `/a/b`; None: the one it is in.

    To be called when no process of the cluster lives: a living agent needs its groups. The groups
    are known by the identity of each node's spool, so that no other cluster's are touched.
    """
    places = list(_groups(home, root, _own() if own is None else own))
    deadline = time.monotonic() + SECONDS
    while places and time.monotonic() < deadline:
        for place in places:
            _empty(place)
        places = [place for place in places if os.path.isdir(place)]
        if places:
            time.sleep(_LOOK)
    return places


def _groups(home: str, root: str, own: str) -> Iterator[str]:
    """Directories of the agents' groups: of v2 at the top or near our own, of v1 in each tree."""
    trees = [root]
    for part in own.strip("/").split("/"):
        trees.append(f"{trees[-1]}/{part}")
    if os.path.isdir(root):
        trees += [entry.path for entry in os.scandir(root) if entry.is_dir()]
    for name in _nodes(home):
        for tree in dict.fromkeys(tree.rstrip("/") for tree in trees):
            place = f"{tree}/{name}"
            if os.path.isdir(place):
                yield place


def _nodes(home: str) -> list[str]:
    found: list[str] = []
    if not os.path.isdir(home):
        return found
    for node in sorted(os.listdir(home)):
        try:
            with open(os.path.join(home, node, "spool", "id"), encoding="ascii") as file:
                identity = file.read().strip()
        except OSError:
            continue  # not a node's directory, or its agent was never started
        if len(identity) == 32 and identity.isalnum():
            found.append(agent_group(node, identity))
    return found


def _own() -> str:
    """Our own group in the v2 tree; an ordinary user's agents make theirs in it or one above it."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    except OSError:
        return ""


def _empty(place: str) -> None:
    """One round of killing and removing, children first; what is in use stays for the next."""
    for directory, _, _ in os.walk(place, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            _kill(directory)


def _kill(directory: str) -> None:
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            inside = [int(line) for line in file]
        for number in inside:
            os.kill(number, signal.SIGKILL)
    except OSError:
        return  # gone meanwhile: the next round removes the directory
