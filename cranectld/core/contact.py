"""Who was heard when: finds agents that are late. Pure; driven by the shell and the simulator."""

from __future__ import annotations

from cranectld.core.commands import NodeSilent
from cranectld.core.due import NS
from cranectld.core.state import State


class ContactBook:
    """Instants (ns) at which each node's agent was last heard; `late` reports each silence once.

    When a controller starts, every node that answered before counts as heard at that instant and is
    granted a full node timeout or lease, whichever is longer: its agent may have been talking to the
    old controller, and nobody knows until when.
    """

    def __init__(self, state: State, now: int) -> None:
        """Timeouts and nodes are read from `state` as it changes; `now`: when we started, ns."""
        self._state = state
        self._start = now
        self._heard = {name: now for name, node in state.nodes.items() if node.answering}

    def heard(self, node: str, now: int) -> None:
        """Anything came from the node's agent."""
        self._heard[node] = now

    def stepped(self, by: int) -> None:
        """Event time goes forward by so many ns at once (ClockStepped): silences stay what they are."""
        self._start += by
        for node in self._heard:
            self._heard[node] += by

    def excuse(self, now: int) -> None:
        """Nobody could be heard for a while: everyone awaited is granted what a start grants, because
        instants from before say nothing of how long they were silent.
        """
        self._start = now
        self._heard = dict.fromkeys(self._heard, now)

    def last_heard(self, node: str) -> int:
        """Instant of the last contact; 0: never, or reported as silent."""
        return self._heard.get(node, 0)

    def late(self, now: int) -> list[NodeSilent]:
        """Nodes that fell silent; each is not awaited again until it is heard. O(nodes)."""
        timeouts = self._state.config.timeouts
        timeout = int(timeouts.node * NS)
        grace = int(max(timeouts.node, timeouts.lease) * NS)
        found = [
            NodeSilent(node, heard)
            for node, heard in self._heard.items()
            if now - heard > (grace if heard == self._start else timeout)
        ]
        for silent in found:
            del self._heard[silent.node]
        return [silent for silent in found if silent.node in self._state.nodes]
