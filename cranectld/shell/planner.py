"""The planner: a thread with tables of its own that makes scheduling passes when something changed.

The loop hands it deltas right after it applied a batch, and never waits for it. A pass reads the
tables only (`sched_core.plan`, numba kernels without the GIL); what it proposes goes back as a
`CommitPlan`, and the next pass is made when that is decided, so no start is proposed twice. An idle
cluster gets its pass at once; under load passes coalesce, and take at most half of the thread's time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crane.errors import CraneError
from cranectld.core.commands import CommitPlan
from cranectld.core.events import Logged, TasksStarted
from cranectld.core.fold import Delta, RequestCache, deltas, policy_row, rebuild
from cranectld.core.state import State
from cranectld.shell.clock import Clock
from cranectld.shell.kernels import BUNDLES, Kernels, groups_of
from cranectld.shell.loop import Loop, PartFailed
from cranectld.shell.planning import Verdict
from cranectld.shell.proposals import proposals
from cranectld.shell.verdicts import Verdicts
from sched_core.names import Dimensions

if TYPE_CHECKING:
    from cranectld.shell.passes import Passes
    from cranectld.shell.prioritising import Term
    from sched_core.plan import Plan
    from sched_core.remedy import Remedy

log = logging.getLogger("planner")

COMPILING = 0.5
"""Seconds after which to look whether kernels that a new configuration needs are there."""
REFRESH = 30.0
"""Seconds after which waiting jobs get fresh estimates, though nothing changed."""
PAUSE_PER_START = 0.01
PAUSE_BUSY = 0.07
"""Seconds of rest after a pass for each job it started, and at most: short jobs that end one by one
share a pass, a commit and a message to their agent, and the more so the more there are of them."""
PAUSE_MAX = 1.0
FAILURE_SPAN = 60.0
"""Seconds: a planner that fails twice within them stops the daemon."""


class Planner:
    """Owns the planner thread. Methods are called from the loop's thread unless said otherwise."""

    def __init__(self, loop: Loop, clock: Clock, cache_dir: str) -> None:
        """`cache_dir`: where compiled kernels are kept."""
        self._loop = loop
        self._clock = clock
        self._kernels = Kernels(cache_dir)
        self._policy = policy_row(loop.state)
        """In force: as configured, once the kernels are there."""
        self._cache = RequestCache()
        self._inbox: deque[list[Delta]] = deque()
        self._signal = threading.Condition()
        self._wanted = False
        self._closing = False
        self._questions: deque[_Question] = deque()
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)
        self._verdicts = Verdicts(None, Dimensions(), 0)
        self.ready = False
        self.figures: dict[str, float] = {"planner_passes": 0.0, "planner_failures": 0.0}

    def start(self) -> None:
        """Take the whole state and begin."""
        self._inbox.append(rebuild(self._loop.state, self._cache))
        self._policy = policy_row(self._loop.state)
        self._wanted = True
        self._thread.start()

    def apply(self, logged: Sequence[Logged]) -> None:
        """Hand over what the events of a command changed, right after they were applied.

        The pass may begin before they are durable: what it proposes is logged behind them.
        """
        changes = deltas(self._loop.state, logged, self._cache)
        if changes:
            self._inbox.append(changes)
            if not all(isinstance(item.event, TasksStarted) for item in logged):
                self.wake()  # what a plan itself started lets nothing else start

    def wake(self) -> None:
        """Something may be able to start now: make a pass soon."""
        with self._signal:
            self._wanted = True
            self._signal.notify()

    def sooner(self, job_id: int, partitions: tuple[str, ...]) -> Future[tuple[Remedy, ...]]:
        """What would make a pending job start sooner, as the thread's next turn finds it.

        `partitions`: those it might use besides its own. Cancelled when the planner stops.
        """
        question = _Question(job_id, partitions, Future())
        with self._signal:
            if self._closing:
                question.answer.cancel()
            else:
                self._questions.append(question)
                self._signal.notify()
        return question.answer

    def close(self) -> None:
        """Stop the thread and the compiling child."""
        with self._signal:
            self._closing = True
            while self._questions:
                self._questions.popleft().answer.cancel()
            self._signal.notify()
        self._kernels.close()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def verdict(self, job_id: int) -> Verdict | None:
        """Why a job waits, as the last pass saw it; None if it was not in that pass."""
        return self._verdicts.find(job_id)

    def terms(self, job_id: int) -> tuple[Term, ...]:
        """What the priority of a waiting job is made of; empty: the core decided it."""
        return self._verdicts.terms(job_id)

    def planned_start(self, job_id: int) -> int:
        """Instant (ns) at which the last pass expects a job to start; 0: unknown."""
        found = self._verdicts.find(job_id)
        return found.planned_start if found is not None else 0

    # --- the planner's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        """Plan until closed. What fails is tried again with tables made anew; what fails again soon
        stops the daemon, which whoever supervises it sees and can start again: one that goes on
        without a planner looks healthy, and starts no job.
        """
        failed = -FAILURE_SPAN
        while not self._closing:
            try:
                self._plan()
            except Exception as error:
                self.figures["planner_failures"] += 1
                now = time.monotonic()
                if now - failed < FAILURE_SPAN:
                    log.exception("the planner failed again")
                    self._loop.stop_threadsafe(PartFailed(f"the planner failed twice: {error!r}"))
                    return
                failed = now
                log.exception("the planner failed: its tables are made anew")

    def _plan(self) -> None:
        if not self.ready and not self._prepare():
            return
        if self.figures["planner_failures"]:
            self._renew()
        self._cycle()

    def _renew(self) -> None:
        """Have the inbox hold the present state and what comes after it, and nothing else."""

        def retake(state: State) -> None:
            self._cache = RequestCache()
            self._inbox.clear()
            self._inbox.append(rebuild(state, self._cache))

        retaken = self._loop.look_threadsafe(retake)
        while not (self._closing or retaken.done()):
            wait([retaken], timeout=0.5)
        if retaken.done():
            retaken.result()

    def _prepare(self) -> bool:
        """Get compiled kernels."""
        begun = time.monotonic()
        self._kernels.use()
        if not self._kernels.wait(groups_of(self._policy)):
            return False
        self.figures["planner_warmup_s"] = time.monotonic() - begun
        self.ready = True
        return not self._closing

    def _cycle(self) -> None:
        from cranectld.shell.passes import Passes  # noqa: PLC0415 - numba: see _prepare

        passes = Passes()
        passes.use(self._policy)
        rested = 0.0  # instant before which no pass is made
        due: float | None = 0.0
        while True:
            with self._signal:
                while not (self._closing or self._wanted or self._questions or _passed(due)):
                    self._signal.wait(None if due is None else max(0.0, due - time.monotonic()))
                rest = rested - time.monotonic()
                if rest > 0:
                    self._signal.wait_for(lambda: self._closing, rest)
                if self._closing:
                    return
                self._wanted = False
            while self._inbox:
                passes.fold(self._inbox.popleft(), self._clock.now())
            if not self._follow(passes):
                return
            self._answer(passes)
            begun = time.monotonic()
            plan = self._pass(passes)
            took = self.figures["planner_pass_last_s"]
            busy = min(PAUSE_BUSY, PAUSE_PER_START * plan.starts)
            rested = begun + took + min(PAUSE_MAX, max(busy, took))
            due = self._next(passes, plan)

    def _follow(self, passes: Passes) -> bool:
        """Plan as configured, as soon as the kernels for it are there; False: closed meanwhile.

        For heterogeneous jobs, once there are any, passes wait: no kernel is compiled within one.
        """
        wanted = passes.tables.policy
        if wanted != self._policy and self._kernels.ready(groups_of(wanted)):
            self._policy = wanted
            passes.use(wanted)
        return not passes.tables.tables.shapes.bundles or self._kernels.wait((BUNDLES,))

    def _answer(self, passes: Passes) -> None:
        """Answer what was asked since the last turn."""
        while self._questions:
            asked = self._questions.popleft()
            try:
                found = passes.sooner(asked.job_id, asked.partitions, self._clock.now())
            except Exception as error:
                asked.answer.set_exception(error)
                raise
            asked.answer.set_result(found)

    def _pass(self, passes: Passes) -> Plan:
        """One pass; waits until what it proposed is decided."""
        now = self._clock.now()
        begun = time.perf_counter()
        plan = passes.make(now)
        took = time.perf_counter() - begun
        part = passes.tables.tables
        told = (passes.moves, passes.forecasts, passes.ranks, part.licences.names)
        self._verdicts = Verdicts(plan, part.dims, now, *told)
        self._count(plan, took)
        decided: Future[object] | None = None
        if plan.starts:
            decided = self._loop.submit_threadsafe(CommitPlan(proposals(plan, part)))
        passes.forecast(plan, now)  # while that is written
        taken = self._taken(decided) if decided is not None else 0
        # Starts refused were made stale by something that asks for a pass itself.
        self._wanted |= plan.starts == passes.most and taken > 0
        passes.decided(plan, taken, now)
        self.figures |= passes.forecasts.figures
        return plan

    def _taken(self, decided: Future[object]) -> int:
        """How many of the proposed starts were taken, once that is decided and durable."""
        while not self._closing:
            try:
                taken = decided.result(timeout=0.5)
            except TimeoutError:
                continue
            except (CraneError, CancelledError):
                return 0  # the controller is stopping
            assert isinstance(taken, int)
            return taken
        return 0

    def _count(self, plan: Plan, took: float) -> None:
        figures = self.figures
        figures["planner_passes"] += 1
        figures["planner_pass_last_s"] = took
        figures["planner_pass_max_s"] = max(took, figures.get("planner_pass_max_s", 0.0))
        figures["planner_pass_total_s"] = figures.get("planner_pass_total_s", 0.0) + took
        figures["planner_pending_records"] = float(len(plan.job))
        figures["planner_examined"] = float(plan.examined)
        figures["planner_starts"] = figures.get("planner_starts", 0.0) + plan.starts

    def _next(self, passes: Passes, plan: Plan) -> float | None:
        """When (monotonic s) to make a pass though nothing happened: what is due, or a refresh."""
        compiling = passes.tables.policy != self._policy
        if not len(plan.job) and not compiling:
            return None
        wait = COMPILING if compiling else REFRESH
        now = self._clock.now()
        foreseen = passes.next_due(plan, now)
        if foreseen:
            wait = min(wait, (foreseen - now) / 1e9)
        due = time.monotonic() + wait
        lacking = passes.forecasts.due
        return min(due, lacking) if lacking else due


@dataclass(frozen=True, slots=True)
class _Question:
    """What would make a job start sooner?"""

    job_id: int
    partitions: tuple[str, ...]
    answer: Future[tuple[Remedy, ...]]


def _passed(due: float | None) -> bool:
    return due is not None and due <= time.monotonic()
