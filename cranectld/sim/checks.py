"""The checkers: what must hold after every step, after every crash, and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crane.session import EndCause
from crane.states import ENDED, JobState, Reason
from cranectld.core import events as ev
from cranectld.core.events import JobEnd
from cranectld.core.fold import RequestCache, rebuild
from cranectld.core.packs import live_packs
from cranectld.core.state import State
from cranectld.core.verify import verify
from cranectld.sim.disk import fold
from cranectld.sim.truth import Execution, SimulationError
from cranectld.sim.users import ENVIRONMENT

if TYPE_CHECKING:
    from cranectld.shell.tables import PlannerTables
    from cranectld.sim.host import FakeStep
    from cranectld.sim.world import World

FULL_EVERY = 8
"""Whole states are compared at every so many appends, and whenever something crashed."""


class Checks:
    """Follows the log with a fold of its own, made from nothing but durable bytes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.shadow = State()
        """The fold of the decoded log."""
        self.acknowledged: dict[int, int] = {}
        """Jobs whose id a user was given, and when."""
        self.ends: dict[int, JobEnd] = {}
        """Last end of each job (or task with an id), as logged."""
        self.forgotten: dict[int, None] = {}
        self._starts: dict[tuple[int, int], int] = {}
        self._appends = 0
        self.compared = 0

    # --- the log ---------------------------------------------------------------------------------

    def durable(self, row: bytes, live: State) -> None:
        """A row became durable: fold it; if the state is not ahead, it must be equal."""
        self._world.digest(row)
        if not self._world.checking:
            return
        for logged in fold(self.shadow, row):
            self._note(logged.event)
        self._appends += 1
        if live.seq == self.shadow.seq and self._appends % FULL_EVERY == 0:
            self.compare(live)
            self.planner_tables()

    def survived(self, rows: list[bytes]) -> None:
        """Rows that were never synced outlived a crash all the same."""
        for row in rows:
            self._world.digest(row)
            if self._world.checking:
                for logged in fold(self.shadow, row):
                    self._note(logged.event)

    def recovered(self, state: State) -> None:
        """A controller has folded the log from its beginning."""
        if self._world.checking:
            self._check_acknowledged(state)
            self.compare(state)

    def _check_acknowledged(self, state: State) -> None:
        """Every job a user was told of exists. (Its id may be given again, so look at once.)"""
        for job_id in self.acknowledged:
            if job_id not in state.jobs and job_id not in self.forgotten:
                raise SimulationError(f"job {job_id} was acknowledged and is lost", (job_id,))

    def compare(self, live: State) -> None:
        """The live state equals the fold of the decoded log."""
        self.compared += 1
        if live == self.shadow and list(live.jobs) == list(self.shadow.jobs):
            return
        for name in State.__slots__:
            ours, folded = getattr(live, name), getattr(self.shadow, name)
            if name != "touched" and (ours != folded or _keys_of(ours) != _keys_of(folded)):
                detail = _difference(ours, folded)
                jobs = detail[0] if name == "jobs" else ()
                text = f"the state differs from the fold of its log in {name}: {detail[1]}"
                raise SimulationError(text, jobs)
        raise SimulationError("the state differs from the fold of its log")

    def _note(self, event: ev.Event) -> None:
        if isinstance(event, ev.TasksStarted):
            for start in event.starts:
                self._starts[start.job_id, start.attempt] = start.end_limit
                self.ends.pop(start.job_id, None)
        elif isinstance(event, ev.JobsEnded):
            for end in event.ends:
                self.ends[end.job_id] = end
        elif isinstance(event, ev.JobsForgotten):
            self.forgotten.update(dict.fromkeys(event.job_ids))

    # --- as it happens ---------------------------------------------------------------------------

    def started(self, step: FakeStep) -> None:
        """User code runs: its attempt must be in the durable log."""
        key = step.key
        if (key.job_id, key.attempt) not in self._starts:
            raise SimulationError(
                f"attempt {key.attempt} of job {key.job_id} runs on {step.host.name}, and the "
                "log does not know that it was started", (key.job_id,),
            )  # fmt: skip

    def was_acknowledged(self, job_id: int) -> None:
        """A user was told this id."""
        self.acknowledged[job_id] = self._world.clock.now

    # --- at quiet points -------------------------------------------------------------------------

    def planner_tables(self) -> None:
        """The planner's folded tables equal tables built from the state."""
        controller = self._world.controller
        tables = controller.planner.tables() if controller is not None else None
        if controller is None or tables is None:
            return
        assert not controller.state.touched, "the planner has been told of every change"
        from cranectld.shell.tables import PlannerTables  # noqa: PLC0415 - numba

        anew = PlannerTables()
        anew.apply(rebuild(controller.state, RequestCache()), controller.now)
        if tables.priorities is not None:
            self._priorities(tables, anew, controller.now // 1_000_000_000)
        if not tables.tables.equals(anew.tables):
            raise SimulationError("the planner's tables differ from tables built from the state")

    def _priorities(self, tables: PlannerTables, anew: PlannerTables, now: int) -> None:
        """Usage is the same but for roundings; priorities are as they were weighed."""
        assert tables.priorities is not None
        assert anew.priorities is not None
        kept, whole = tables.priorities.shares, anew.priorities.shares
        used, whole_used = kept.usage(now), whole.usage(now)
        for row in range(kept.rows):
            at = whole.row(kept.names.text(row))
            counted = int(whole_used[at]) if at >= 0 else 0
            if abs(int(used[row]) - counted) > 4 * len(self.acknowledged) + 100:
                raise SimulationError(
                    f"the planner's tables differ from tables built from the state: usage is "
                    f"{used[row]}, not {counted}"
                )
        old, new = tables.tables.jobs, anew.tables.jobs
        rows = new.order()
        both = rows[[job_id in old for job_id in new.id[rows].tolist()]]
        places = [old.row(job_id) for job_id in new.id[both].tolist()]
        new.set_priorities(both, old.priority[places])

    def final(self) -> None:
        """Everything is over: all jobs ended as the truth says, and nothing is left anywhere."""
        world = self._world
        controller = world.controller
        assert controller is not None
        state = controller.state
        verify(state)
        self.compare(state)
        self.planner_tables()
        waiting = tuple(job_id for job_id, job in state.jobs.items() if job.state not in ENDED)
        if waiting:
            raise SimulationError(f"jobs {waiting} never ended", waiting)
        self._check_acknowledged(state)
        left = tuple(world.truth.live_jobs())
        if left:
            raise SimulationError(f"jobs {left} have ended, and still live on hosts", left)
        for host in world.hosts.values():
            agent = host.agent
            records = tuple(key.job_id for key in host.spool.records)
            if host.steps or records or agent is None or agent.state.jobs or agent.state.unsent:
                raise SimulationError(f"{host.name} is not clean: {records}", records)
        for node in state.nodes.values():
            if node.jobs or node.cpus_used or node.memory_used or node.exclusive:
                text = f"the controller believes {node.config.name} in use by {list(node.jobs)}"
                raise SimulationError(text, tuple(node.jobs))
        packs = [pack for pack in live_packs(state) if pack != ENVIRONMENT.pack]
        if packs:
            raise SimulationError(f"the store may never forget packs {packs} of steps that ended")
        for end in self.ends.values():
            self._check_end(end)

    def _check_end(self, end: JobEnd) -> None:
        """A job's end against what was truly run of its last attempt."""
        runs = [r for r in self._world.truth.batch_runs(end.job_id) if r.key.attempt == end.attempt]
        wrong = _contradiction(end, runs)
        if wrong:
            raise SimulationError(
                f"job {end.job_id} is {end.state.name} ({end.reason.word}, attempt {end.attempt}, "
                f"code {end.exit_code}, signal {end.signal}), but {wrong}", (end.job_id,),
            )  # fmt: skip


_CAUSE_OF = {
    JobState.COMPLETED: EndCause.EXIT,
    JobState.TIMEOUT: EndCause.TIMEOUT,
    JobState.OUT_OF_MEMORY: EndCause.OUT_OF_MEMORY,
}


def _contradiction(end: JobEnd, runs: list[Execution]) -> str:
    """What of the truth contradicts a logged end; empty: nothing."""
    if len(runs) > 1:
        return f"its script was run {len(runs)} times"
    if not end.attempt and runs:
        return "its script was run"
    cause = _CAUSE_OF.get(end.state)
    plain_failure = end.state is JobState.FAILED and end.reason is not Reason.JOB_LAUNCH_FAILURE
    if cause is None and not plain_failure:
        return ""
    if not runs:
        # The limit counts from the start that was logged: the order may have come too late.
        return "" if end.state is JobState.TIMEOUT else "its script was never run"
    outcome = runs[0].outcome
    if outcome is None:
        return "its host died with it"
    if plain_failure:
        cause = EndCause.EXIT
    found = (outcome.cause, outcome.exit_code, outcome.signal)
    if found != (cause, end.exit_code, end.signal):
        return f"its script ended by {found[0].name}, code {found[1]}, signal {found[2]}"
    return ""


def _keys_of(value: object) -> list[object]:
    """The keys of a dict in order: replay must keep it, since iteration follows it."""
    return list(value) if isinstance(value, dict) else []


def _difference(ours: object, folded: object) -> tuple[tuple[int, ...], str]:
    """Where two values differ, for a human; and the keys, where they are jobs."""
    if isinstance(ours, dict) and isinstance(folded, dict):
        keys = [k for k in {**ours, **folded} if ours.get(k) != folded.get(k)]
        jobs = tuple(key for key in keys if isinstance(key, int))
        key = keys[0] if keys else None
        if key is not None:
            return jobs, f"[{key}] {ours.get(key)!r} instead of {folded.get(key)!r}"
        return jobs, f"order of keys: {list(ours)} instead of {list(folded)}"
    return (), f"{ours!r} instead of {folded!r}"
