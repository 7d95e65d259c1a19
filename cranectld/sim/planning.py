"""Planners of the simulation: the real one on its own folded tables, and a small first-fit one.

Both run as events of their own: a pass sees what was folded when it begins, and what it proposes is
decided later, against a state that may have moved on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from crane import features
from crane.jobspec import Component
from crane.session import NodeShare
from cranectld.core.commands import CommitPlan, PlannedStart
from cranectld.core.due import next_begin
from cranectld.core.eligibility import startable
from cranectld.core.events import Logged
from cranectld.core.fold import Delta, RequestCache, deltas, rebuild
from cranectld.core.state import Job, Node, State
from cranectld.sim.clock import MS, Timer, seconds

if TYPE_CHECKING:
    from cranectld.shell.tables import PlannerTables
    from cranectld.sim.controller import SimulatedController
    from sched_core.plan import Plan

REFRESH = seconds(30)
MAX_STARTS = 2_000


class SimulatedPlanner(Protocol):
    """What the simulated controller asks of a planner."""

    def start(self) -> None:
        """Take the recovered state."""

    def applied(self, events: Sequence[Logged], /) -> None:
        """These events were just applied."""

    def wake(self) -> None:
        """Make a pass soon."""

    def tables(self) -> PlannerTables | None:
        """The tables with all that was applied; None for a planner without any."""


def make_planner(kind: str, controller: SimulatedController) -> SimulatedPlanner:
    """`real` or `naive`."""
    assert kind in {"real", "naive"}, kind
    return RealPlanner(controller) if kind == "real" else NaivePlanner(controller)


class _Passes:
    """When passes are made, as the planner's thread does: one at a time, again after each commit."""

    def __init__(self, controller: SimulatedController) -> None:
        self.controller = controller
        self._busy = False
        self._wanted = False
        self._refresh: Timer | None = None

    def wake(self) -> None:
        """Make a pass soon."""
        self._wanted = True
        if not self._busy:
            self._busy = True
            self._later(self._pass)

    def _later(self, action: object, *arguments: object) -> None:
        world = self.controller.world
        delay = world.draw(0.5 * MS, 20 * MS)
        assert callable(action)
        world.clock.after(delay, action, *arguments, owner=self.controller)

    def _pass(self) -> None:
        self._wanted = False
        starts = self.propose()
        if starts:
            self._later(self._commit, starts)
        else:
            self.decided(0)
            self._rest()

    def _commit(self, starts: tuple[PlannedStart, ...]) -> None:
        self.controller.submit(CommitPlan(starts), self._committed)

    def _committed(self, answer: object) -> None:
        assert isinstance(answer, int), answer
        self.decided(answer)
        self._later(self._pass)

    def _rest(self) -> None:
        self._busy = False
        if self._wanted:
            self.wake()
            return
        if self._refresh is not None:
            self._refresh.cancel()
        controller = self.controller
        due = controller.now + REFRESH
        begin = next_begin(controller.state, controller.now)
        due = due if begin is None else min(due, begin)
        self._refresh = controller.after(due, self.wake)

    def propose(self) -> tuple[PlannedStart, ...]:
        """The starts of one pass."""
        raise NotImplementedError

    def decided(self, taken: int) -> None:
        """So many of the starts of the last pass were taken."""
        raise NotImplementedError


class RealPlanner(_Passes):
    """The fold, the tables and `sched_core.plan`, as the planner's thread runs them."""

    def __init__(self, controller: SimulatedController) -> None:
        super().__init__(controller)
        from cranectld.shell.passes import Passes  # noqa: PLC0415 - numba

        self._passes = Passes()
        self._plan: Plan | None = None
        self._made = 0
        self._cache = RequestCache()
        self._inbox: list[list[Delta]] = []

    def start(self) -> None:
        """Take the recovered state."""
        self._inbox = [rebuild(self.controller.state, self._cache)]

    def applied(self, events: Sequence[Logged]) -> None:
        """Hand over what the events changed."""
        changes = deltas(self.controller.state, list(events), self._cache)
        if changes:
            self._inbox.append(changes)

    def tables(self) -> PlannerTables:
        """With everything handed over folded in."""
        now = self.controller.now
        for changes in self._inbox:
            self._passes.fold(changes, now)
        self._inbox.clear()
        self._passes.tables.open_due(now)
        return self._passes.tables

    def propose(self) -> tuple[PlannedStart, ...]:
        """One pass."""
        from cranectld.shell.proposals import proposals  # noqa: PLC0415 - numba

        tables = self.tables()
        self._passes.use(tables.policy)
        self._made = self.controller.now
        self._plan = self._passes.make(self._made)
        self._passes.forecast(self._plan, self._made)
        return proposals(self._plan, tables.tables)

    def decided(self, taken: int) -> None:
        """So many of the starts of the last pass were taken."""
        assert self._plan is not None
        self._passes.decided(self._plan, taken, self._made)


class NaivePlanner(_Passes):
    """First fit in order of priority, straight from the state: small, slow, and needs no numba."""

    def start(self) -> None:
        """It keeps nothing."""

    def applied(self, _events: Sequence[Logged]) -> None:
        """It keeps nothing."""
        self.controller.state.touched.clear()

    def tables(self) -> None:
        """It has none."""
        return

    def propose(self) -> tuple[PlannedStart, ...]:
        """One pass."""
        state, now = self.controller.state, self.controller.now
        rooms = {name: _Room(node) for name, node in state.nodes.items() if node.usable}
        waiting = sorted(state.jobs.values(), key=lambda job: (-job.priority, job.job_id))
        out: list[PlannedStart] = []
        for job in waiting:
            open_for = startable(state, job)
            if open_for is None or open_for.gate or job.eligible_time > now:
                continue
            for _ in range(open_for.count):
                start = _place(state, job, rooms)
                if start is None or len(out) >= MAX_STARTS:
                    break
                out.append(start)
        return tuple(out)

    def decided(self, taken: int) -> None:
        """It keeps nothing."""


class _Room:
    """What is free on a node while a pass goes on."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cpus = node.cpus - node.cpus_used
        self.memory = node.memory - node.memory_used
        self.slots = {kind: used.count(0) for kind, used in node.slots_used.items()}
        self.empty = not node.jobs
        self.closed = node.exclusive != 0

    def fits(self, part: Component, most: int) -> int:
        """How many tasks (up to `most`) fit here."""
        if self.closed or (part.exclusive and not self.empty):
            return 0
        if part.mem_per_node > self.memory or self.gres(part) is None:
            return 0
        tasks = min(most, self.cpus // max(part.cpus_per_task, 1))
        per_task = -(-part.mem_per_cpu * part.cpus_per_task // 1000)
        return min(tasks, self.memory // per_task) if per_task else tasks

    def gres(self, part: Component) -> tuple[tuple[str, str, int], ...] | None:
        """Device slots to take for a part; None: not there."""
        free = dict(self.slots)
        out: list[tuple[str, str, int]] = []
        for want in part.gres:
            kind = next(
                (k for k, n in free.items()
                 if k[0] == want.name and want.type in {"", k[1]} and n >= want.count), None,
            )  # fmt: skip
            if kind is None:
                return None
            free[kind] -= want.count
            out.append((*kind, want.count))
        return tuple(out)

    def take(
        self, part: Component, tasks: int
    ) -> tuple[NodeShare, tuple[tuple[str, str, int], ...]]:
        """Take the room of so many tasks."""
        slots = self.gres(part)
        assert slots is not None
        cpus = part.cpus_per_task * tasks
        memory = part.mem_per_node + -(-part.mem_per_cpu * part.cpus_per_task // 1000) * tasks
        if part.exclusive:
            cpus, memory = self.cpus, self.memory
            slots = tuple((*kind, free) for kind, free in self.slots.items() if free)
            self.closed = True
        self.cpus -= cpus
        self.memory -= memory
        self.empty = False
        for name, kind, count in slots:
            self.slots[name, kind] -= count
        return NodeShare(self.node.config.name, cpus, memory, tasks=tasks), slots


def _place(state: State, job: Job, rooms: dict[str, _Room]) -> PlannedStart | None:
    """A start for a job (or the next task of an array), or None if it does not fit now."""
    part = job.spec.components[0]
    for name in job.spec.partitions:
        partition = state.partitions.get(name)
        if partition is None or not partition.up:
            continue
        there = [rooms[n] for n in partition.nodes if n in rooms]
        wanted = features.parse(part.features)
        ways = [_choose(part, there, choice) or [] for choice in wanted.choices()]
        chosen = next(filter(None, ways), [])
        if chosen and wanted.met_by([room.node.config.features for room, _ in chosen]):
            taken = [room.take(part, tasks) for room, tasks in chosen]
            return PlannedStart(
                job.job_id, tuple(s for s, _ in taken), tuple(g for _, g in taken), name
            )
    return None


def _choose(
    part: Component, rooms: list[_Room], wanted: features.Alternatives
) -> list[tuple[_Room, int]] | None:
    """Nodes and tasks on each, all with the features wanted; required nodes first."""
    fitting = [
        room for room in rooms
        if room.node.config.name not in part.exclude
        and features.has(room.node.config.features, wanted)
    ]  # fmt: skip
    fitting.sort(key=lambda room: room.node.config.name not in part.nodelist)
    low = max(part.min_nodes, 1, len(part.nodelist))
    if not part.ntasks:
        each = part.ntasks_per_node or 1
        chosen = [(room, each) for room in fitting if room.fits(part, each) == each][:low]
    else:
        low = min(low, part.ntasks)
        high = min(part.max_nodes or part.min_nodes or part.ntasks, part.ntasks)
        chosen = _pack(part, fitting, low, high)
    names = [room.node.config.name for room, _ in chosen]
    if len(chosen) < low or any(name not in names for name in part.nodelist):
        return None
    return chosen


def _pack(part: Component, rooms: list[_Room], low: int, high: int) -> list[tuple[_Room, int]]:
    """`ntasks` tasks on `low` to `high` nodes; empty if they do not fit."""
    left = part.ntasks
    out: list[tuple[_Room, int]] = []
    cap = part.ntasks_per_node or part.ntasks
    for room in rooms:
        still = max(low - len(out) - 1, 0)
        tasks = room.fits(part, min(cap, left - still))
        if tasks > 0 and len(out) < high:
            out.append((room, tasks))
            left -= tasks
        if not left:
            return out if len(out) >= low else []
    return []
