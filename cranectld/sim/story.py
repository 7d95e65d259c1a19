"""The story: everything that happened to the jobs concerned, in order, for a human."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import NamedTuple

from cranectld.core.commands import Rejected
from cranectld.core.events import Logged, NodeChanged, NodeLost, NodeRegistered, TasksStarted
from cranectld.sim.clock import START, Clock, S


class Line(NamedTuple):
    """One thing that happened."""

    time: int
    kind: str
    """`log`, `host`, `fault`, `user` or `refused`."""
    jobs: frozenset[int]
    """Jobs concerned; empty: all of them."""
    text: str


class Story:
    """Collects lines while `recording`; costs nothing otherwise."""

    def __init__(self, clock: Clock, *, recording: bool) -> None:
        self._clock = clock
        self.recording = recording
        self.lines: list[Line] = []

    def _add(self, kind: str, jobs: Iterable[int], text: str) -> None:
        self.lines.append(Line(self._clock.now, kind, frozenset(jobs), text))

    def event(self, logged: Logged) -> None:
        """An event was applied."""
        if not self.recording:
            return
        event = logged.event
        if isinstance(event, NodeRegistered):
            given = event.registration
            running = [tuple(key) for key in given.running]
            text = f"NodeRegistered {given.node} {given.incarnation} {given.boot_id} runs {running}"
            self._add("log", (), f"#{logged.seq} {text}")
        elif isinstance(event, NodeLost | NodeChanged):
            self._add("log", (), f"#{logged.seq} {event}")
        else:
            self._parts(logged)

    def _parts(self, logged: Logged) -> None:
        """One line per job of a plural event."""
        event = logged.event
        parts = _items(event)
        name = type(event).__name__
        for part in parts or [event]:
            jobs = _jobs_of(part)
            if name == "JobsSubmitted":
                first = getattr(event, "first_id")  # noqa: B009 - an event of many kinds
                jobs = [first + parts.index(part)]
            text = _short(part)
            if isinstance(event, TasksStarted):
                text = _start_text(part)
            self._add("log", jobs, f"#{logged.seq} {name}: {text}")

    def truth(self, job_id: int, text: str) -> None:
        """Something truly happened on a host."""
        if self.recording:
            self._add("host", (job_id,), text)

    def fault(self, text: str) -> None:
        """A fault was injected."""
        if self.recording:
            self._add("fault", (), text)

    def asked(self, command: object) -> None:
        """A user sent a command."""
        if self.recording:
            self._add("user", _mentioned(command), _short(command))

    def note(self, text: str) -> None:
        """Anything else worth a line."""
        if self.recording:
            self._add("note", (0,), text)

    def order(self, node: str, order: object) -> None:
        """An agent was given an order."""
        if self.recording:
            self._add("order", _jobs_of(order), f"{node} <- {_short(order)}")

    def report(self, node: str, seq: int, report: object) -> None:
        """A controller was given a report."""
        if self.recording:
            self._add("report", _jobs_of(report), f"{node} -> ({seq}) {_short(report)}")

    def rejected(self, command: object, refusal: Rejected) -> None:
        """A command was refused."""
        if self.recording:
            text = f"{type(command).__name__} refused: {refusal.code} {refusal.message}"
            self._add("refused", _mentioned(command), text)

    def told(self, jobs: Collection[int] = (), last: int = 0) -> str:
        """The story of some jobs (empty: of all), with the faults; at most the `last` lines."""
        wanted = set(jobs)
        chosen = [line for line in self.lines if not wanted or not line.jobs or wanted & line.jobs]
        chosen = chosen[-last:] if last else chosen
        return "\n".join(
            f"{(line.time - START) / S:12.6f}  {line.kind:7} {line.text}" for line in chosen
        )


def _items(event: object) -> list[object]:
    """The parts of a plural event."""
    fields = [f.name for f in dataclasses.fields(event)]  # type: ignore[arg-type]
    for name in ("jobs", "starts", "steps", "ends", "shares", "targets"):
        if name in fields:
            return list(getattr(event, name))
    return []


def _jobs_of(part: object) -> list[int]:
    """Jobs a part of an event is about."""
    found = [getattr(part, name, 0) for name in ("job_id", "array_id")]
    key = getattr(part, "key", None)
    if key is not None:
        found.append(key.job_id)
    found += getattr(part, "job_ids", ())
    return [job_id for job_id in found if job_id]


def _mentioned(command: object) -> list[int]:
    """Jobs that a command names."""
    selector = getattr(command, "selector", None)
    found = [item.job_id for item in selector.ids] if selector is not None else []
    return [*found, *_jobs_of(command)] or [0]


def _start_text(start: object) -> str:
    text = _short(start)
    shares = getattr(start, "shares", ())
    where = ", ".join(f"{s.node}({s.cpus}/{s.memory}/{s.slots or ''})" for s in shares)
    return f"{text} on {where}"


def _short(value: object) -> str:
    """A value without what is at its default or long."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    parts = []
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if field.name in {"spec", "submission", "shares", "config", "principal"} or not found:
            continue
        parts.append(f"{field.name}={found!r}")
    return f"{type(value).__name__}({', '.join(parts)})"
