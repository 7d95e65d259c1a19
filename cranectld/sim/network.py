"""The network between agents and controller: streams that delay, stall and break.

Within a stream order holds and nothing is lost or doubled silently: a lost message breaks the stream,
as TCP and HTTP/2 do, and each end notices at a time of its own (at once, or when its keepalive gives
up). Reordering happens between streams: what a broken one still carries may arrive after its
successor was opened. A partition stalls; what it outlives is delivered late, in order.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from cranectld.sim.clock import MS, Clock, Process, seconds


class Endpoint(Protocol):
    """One end of a stream."""

    process: Process

    def received(self, stream: Stream, message: object) -> None:
        """A message arrived."""

    def broken(self, stream: Stream) -> None:
        """The stream is over; nothing more arrives or leaves."""


class _Direction:
    """Messages on their way to one end."""

    __slots__ = ("last", "lost", "messages", "receiver", "stalled")

    def __init__(self, receiver: Endpoint) -> None:
        self.receiver: Endpoint | None = receiver
        self.last = 0
        self.messages: deque[object] = deque()
        """Under way, in order: each arrival takes the first, so that none overtakes another."""
        self.stalled = 0
        """Arrivals held up by a partition."""
        self.lost = False


class Stream:
    """One session's stream between an agent and the controller."""

    __slots__ = ("_network", "_to_agent", "_to_controller", "node")

    def __init__(self, network: Network, node: str, agent: Endpoint, controller: Endpoint) -> None:
        self._network = network
        self.node = node
        self._to_agent = _Direction(agent)
        self._to_controller = _Direction(controller)

    def to_agent(self, message: object) -> None:
        """Send from the controller."""
        self._network.carry(self, self._to_agent, message)

    def to_controller(self, message: object) -> None:
        """Send from the agent."""
        self._network.carry(self, self._to_controller, message)

    def close(self) -> None:
        """Break it; each open end is told after a while."""
        for direction in self.directions:
            if not direction.lost:
                direction.lost = True
                self._network.tell_broken(self, direction, self._network.notice())

    def close_at(self, endpoint: Endpoint) -> None:
        """One end leaves: it hears no more of this stream, the other end is told."""
        for direction in self.directions:
            if direction.receiver is endpoint:
                direction.receiver = None
        self.close()

    @property
    def directions(self) -> tuple[_Direction, _Direction]:
        """To the agent, to the controller."""
        return self._to_agent, self._to_controller


@dataclass(slots=True)
class Weather:
    """How bad the network is; all chances are per message."""

    slow: float = 0.0
    """Delayed by up to two seconds."""
    lose: float = 0.0
    """Lost: the stream breaks."""
    lose_heartbeat: float = 0.0
    """A heartbeat that never comes about (a stalled host), while the stream lives."""
    repeat: float = 0.0
    """Orders and reports sent twice, as after an effect whose success was not seen."""


class Network:
    """All streams; one per agent at most is current, older ones may linger."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self.weather = Weather()
        self._cut: dict[str, int] = {}
        """Partitioned nodes and when the partition ends."""
        self._streams: dict[str, list[Stream]] = {}
        self.messages = 0
        self.breaks = 0

    # --- streams ---------------------------------------------------------------------------------

    def dial(self, node: str, agent: Endpoint, controller: Endpoint | None) -> Stream | None:
        """A new stream; None if nobody answers."""
        if controller is None or not controller.process.alive or node in self._cut:
            return None
        stream = Stream(self, node, agent, controller)
        live = [s for s in self._streams.get(node, ()) if any(d.receiver for d in s.directions)]
        self._streams[node] = [*live, stream]
        return stream

    def carry(self, stream: Stream, direction: _Direction, message: object) -> None:
        """Put a message on its way."""
        self.messages += 1
        if direction.lost or direction.receiver is None:
            return
        if self.weather.lose and self._rng.random() < self.weather.lose:
            self.breaks += 1
            stream.close()
            return
        direction.messages.append(message)
        if stream.node in self._cut:
            direction.stalled += 1
        else:
            self._launch(stream, direction)

    def _launch(self, stream: Stream, direction: _Direction) -> None:
        arrival = max(self._clock.now + self.delay(), direction.last + 1)
        direction.last = arrival
        self._clock.at(arrival, self._arrive, stream, direction)

    def delay(self) -> int:
        """How long a message takes."""
        if self.weather.slow and self._rng.random() < self.weather.slow:
            return round(self._rng.random() * 2000 * MS)
        return round((0.05 + self._rng.random() ** 3 * 5) * MS)

    def notice(self) -> int:
        """How long an end takes to notice that its stream is broken."""
        if self._rng.random() < 0.7:
            return self.delay()
        return round(self._rng.random() * 10_000 * MS)

    def _arrive(self, stream: Stream, direction: _Direction) -> None:
        receiver = direction.receiver
        if receiver is None or not receiver.process.alive or not direction.messages:
            return
        if stream.node in self._cut:
            direction.stalled += 1
            return
        receiver.received(stream, direction.messages.popleft())

    def tell_broken(self, stream: Stream, direction: _Direction, delay: int) -> None:
        """Tell one end, after `delay` ns, and not before what was sent before the break."""
        self._clock.at(
            max(self._clock.now + delay, direction.last + 1), self._end, stream, direction
        )

    def _end(self, stream: Stream, direction: _Direction) -> None:
        receiver, direction.receiver = direction.receiver, None
        direction.stalled = 0
        direction.messages.clear()
        if receiver is not None and receiver.process.alive:
            receiver.broken(stream)

    # --- faults ----------------------------------------------------------------------------------

    def break_streams(self, node: str) -> None:
        """All streams of a node break."""
        for stream in self._streams.get(node, ()):
            self.breaks += 1
            stream.close()

    def cut(self, node: str, duration: int) -> None:
        """Partition a node for a while; keepalives on both sides may give its streams up."""
        if node in self._cut:
            return
        until = self._clock.now + duration
        self._cut[node] = until
        self._clock.at(until, self._mend, node, until)
        for stream in self._streams.get(node, ()):
            for direction in stream.directions:
                patience = seconds(3 + self._rng.random() * 20)
                self._clock.after(patience, self._give_up, stream, direction, until)

    def _give_up(self, stream: Stream, direction: _Direction, until: int) -> None:
        """The keepalive of one end fails, if the partition is still there."""
        if self._cut.get(stream.node) == until:
            direction.lost = True
            self._end(stream, direction)

    def _mend(self, node: str, until: int) -> None:
        if self._cut.get(node) != until:
            return
        del self._cut[node]
        for stream in self._streams.get(node, ()):
            half_open = any(d.receiver is None for d in stream.directions)
            for direction in stream.directions:
                late, direction.stalled = direction.stalled, 0
                for _ in range(late):
                    self._launch(stream, direction)
            if half_open:
                stream.close()

    def mend_all(self) -> None:
        """Every partition ends."""
        for node in list(self._cut):
            self._mend(node, self._cut[node])

    def is_cut(self, node: str) -> bool:
        """Whether a node is partitioned."""
        return node in self._cut

    def host_died(self, node: str) -> None:
        """A host lost its power: what its kernel had not got through is never sent again, and
        nobody resets its streams. The other end finds out by its keepalive, and may get what was
        under way when the host is up again.
        """
        for stream in self._streams.get(node, ()):
            to_agent, to_controller = stream.directions
            to_agent.lost = to_controller.lost = True
            to_agent.receiver = None
            self._clock.after(
                seconds(0.1 + self._rng.random() * 20), self._end, stream, to_controller
            )
            if node in self._cut:
                to_controller.messages.clear()
                to_controller.stalled = 0

    def process_died(self, process: Process) -> None:
        """The kernel of a dead process's host resets its streams (its peers are told)."""
        for streams in self._streams.values():
            for stream in streams:
                ends = [d.receiver for d in stream.directions]
                if any(end is not None and end.process is process for end in ends):
                    stream.close()
