"""Performs effects: hands orders to the agents' open streams, and wakes the planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from crane.session import Order
from cranectld.core.effects import Effect, ForgetOrders, Replan


class Link(Protocol):
    """The open stream to one agent."""

    def post(self, orders: Sequence[Order]) -> None:
        """Queue orders; they are sent in this order, together with what else waits."""

    def forget(self) -> None:
        """Drop the orders that wait: the node has registered since they were made."""

    def replaced(self) -> None:
        """A newer stream of the node has taken its place, or the agent has to register anew: end."""


class Links:
    """The agents' open streams, by node. An order for a node without one is dropped: the agent is
    sent what it lacks when it registers.
    """

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._streams = 0
        self._newest: dict[str, int] = {}
        """Highest number opened for each node, also when that stream has ended."""

    def next_number(self) -> int:
        """A number for a stream, higher than any before."""
        self._streams += 1
        return self._streams

    def open(self, node: str, link: Link, number: int) -> bool:
        """From now on `node`'s orders go to `link`, the stream of that number. False, and nothing is
        changed, if one with a higher number was opened: the agent has dialled again since.
        """
        if number < self._newest.get(node, 0):
            return False
        self._newest[node] = number
        old = self._links.get(node)
        self._links[node] = link
        if old is not None:
            old.replaced()
        return True

    def close(self, node: str, link: Link) -> None:
        """`link` has ended; it may have been replaced already."""
        if self._links.get(node) is link:
            del self._links[node]

    def end(self, node: str) -> None:
        """End the node's stream: it is given up for silent, and no later word in this session may
        renew the agent's lease.
        """
        link = self._links.pop(node, None)
        if link is not None:
            link.replaced()

    def get(self, node: str) -> Link | None:
        """The node's stream."""
        return self._links.get(node)

    def items(self) -> list[tuple[str, Link]]:
        """Every node that has a stream, with it."""
        return list(self._links.items())

    def __contains__(self, node: object) -> bool:
        return node in self._links

    def __len__(self) -> int:
        return len(self._links)


class Performer:
    """Carries out the effects of a batch once it is durable (`Loop.on_effects`)."""

    def __init__(self, links: Links, wake: Callable[[], None]) -> None:
        """`wake`: asks the planner for a pass."""
        self._links = links
        self._wake = wake

    def __call__(self, effects: Sequence[Effect]) -> None:
        """Perform effects, in order for each node."""
        orders: dict[str, list[Order]] = {}
        replan = False
        for effect in effects:
            if isinstance(effect, Replan):
                replan = True
            elif isinstance(effect, ForgetOrders):
                orders.pop(effect.node, None)
                link = self._links.get(effect.node)
                if link is not None:
                    link.forget()
            else:
                orders.setdefault(effect.node, []).append(effect.order)
        for node, waiting in orders.items():
            link = self._links.get(node)
            if link is not None:
                link.post(waiting)
        if replan:
            self._wake()
