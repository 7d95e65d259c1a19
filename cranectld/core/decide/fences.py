"""Fences: the instants after which nothing of a lost node can be alive (cranectld.shell.clock says on
which scale). One that moves is logged as another NodeLost; none is ever moved forward in true time.
"""

from __future__ import annotations

from cranectld.core.commands import ClockStepped, StartEpoch
from cranectld.core.decide.decision import Decision
from cranectld.core.due import NS
from cranectld.core.events import EpochStarted, NodeLost
from cranectld.core.state import Node, State


def fence_after(node: Node, heard: int) -> int:
    """Fence of a node that was last heard at that instant; 0: what runs there may live on."""
    # What its agent was told counts, whatever the configuration says by now.
    return heard + int((node.lease + node.kill_grace) * NS) if node.kills else 0


def start_epoch(state: State, _command: StartEpoch, now: int) -> Decision:
    """StartEpoch. Reply: int, the epoch. How long no controller ran is known from the wall clock
    alone, which may have been set meanwhile: fences are counted anew from now.
    """
    lost = tuple(
        NodeLost(name, node.last_heard, max(fence, now + int((node.lease + node.kill_grace) * NS)))
        for name, node, fence in _fenced(state)
    )
    return Decision((EpochStarted(state.epoch + 1), *lost), state.epoch + 1)


def clock_stepped(state: State, command: ClockStepped, _now: int) -> Decision:
    """ClockStepped. Reply: None."""
    lost = [
        NodeLost(name, node.last_heard + command.by, fence + command.by)
        for name, node, fence in _fenced(state)
    ]
    return Decision(tuple(lost))


def _fenced(state: State) -> list[tuple[str, Node, int]]:
    """Lost nodes whose jobs wait for a fence. O(nodes and jobs there)."""
    found = []
    for name, node in state.nodes.items():
        if node.answering:
            continue
        runs = [state.jobs[job_id].run for job_id in node.jobs]
        fence = max((run.fences.get(name, 0) for run in runs if run is not None), default=0)
        if fence:
            found.append((name, node, fence))
    return found
