"""What truly happened on the fake hosts, whatever the daemons believe: the judge's own records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crane.jobspec import BATCH_STEP
from crane.session import NodeShare, StepEnded, StepKey

if TYPE_CHECKING:
    from cranectld.sim.host import FakeHost, FakeStep
    from cranectld.sim.world import World


class SimulationError(AssertionError):
    """A promise was broken. `jobs` are those concerned."""

    def __init__(self, message: str, jobs: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.jobs = jobs


@dataclass(slots=True)
class Execution:
    """User code of one step that was run on one host."""

    key: StepKey
    host: str
    ranks: tuple[int, ...]
    start: int
    end: int = 0
    """0: it is alive."""
    outcome: StepEnded | None = None
    """None once `end` is set: the host went down under it."""


class Truth:
    """Every execution of user code, judged as it happens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.executions: dict[int, list[Execution]] = {}
        """By job id, in order."""
        self._ranks: dict[tuple[int, int, int, int], str] = {}
        self._live: dict[int, dict[tuple[str, StepKey], Execution]] = {}
        self.count = 0

    def executed(self, step: FakeStep) -> None:
        """User code begins. Judges: once only, one attempt, ordered by a durable start, room."""
        key, host = step.key, step.host
        execution = Execution(key, host.name, _ranks(step), self._world.clock.now)
        self.count += 1
        self._world.story.truth(key.job_id, f"{host.name}: runs {_name(key)} (pid {step.pid})")
        if not self._world.checking:
            return
        self.executions.setdefault(key.job_id, []).append(execution)
        live = self._live.setdefault(key.job_id, {})
        for name, other in live:
            if other.attempt != key.attempt:
                raise SimulationError(
                    f"{_name(key)} begins on {host.name} while {_name(other)} lives on {name}",
                    (key.job_id,),
                )
        for rank in execution.ranks:
            place = self._ranks.setdefault((*key, rank), host.name)
            if place is not host.name or self._runs_of(key, host.name) > 1:
                raise SimulationError(
                    f"{_name(key)} rank {rank} is run twice: on {place} and {host.name}",
                    (key.job_id,),
                )
        live[host.name, key] = execution
        self._world.checks.started(step)
        self._check_room(host)

    def _runs_of(self, key: StepKey, host: str) -> int:
        runs = self.executions[key.job_id]
        return sum(1 for run in runs if run.key == key and run.host == host)

    def ended(self, step: FakeStep, end: StepEnded) -> None:
        """A step's processes are gone, and its record says how."""
        text = f"{step.host.name}: {_name(step.key)} ended, {_how(end)}"
        self._world.story.truth(step.key.job_id, text)
        if not self._world.checking:
            return
        execution = self._live.get(step.key.job_id, {}).pop((step.host.name, step.key), None)
        if execution is not None:
            execution.end, execution.outcome = self._world.clock.now, end

    def vanished(self, step: FakeStep) -> None:
        """The host went down with it."""
        self._world.story.truth(
            step.key.job_id, f"{step.host.name}: {_name(step.key)} died with it"
        )
        if not self._world.checking:
            return
        execution = self._live.get(step.key.job_id, {}).pop((step.host.name, step.key), None)
        if execution is not None:
            execution.end = self._world.clock.now

    def live_jobs(self) -> list[int]:
        """Jobs of which something is alive."""
        return [job_id for job_id, live in self._live.items() if live]

    def batch_runs(self, job_id: int) -> list[Execution]:
        """Executions of a job's batch script, in order."""
        runs = self.executions.get(job_id, ())
        return [run for run in runs if run.key.step == BATCH_STEP]

    def _check_room(self, host: FakeHost) -> None:
        """What truly lives on a host fits into it."""
        shares: dict[int, NodeShare] = {}
        for key, step in host.steps.items():
            if step.start:
                for share in step.order.shares:
                    if share.node == host.name:
                        shares[key.job_id] = share
        jobs = tuple(shares)
        cpus = sum(share.cpus for share in shares.values())
        memory = sum(share.memory for share in shares.values())
        if cpus > host.cpus or memory > host.memory:
            raise SimulationError(
                f"{host.name} is oversubscribed: {cpus} of {host.cpus} thousandths of CPU and "
                f"{memory} of {host.memory} MiB are used by jobs {jobs}", jobs,
            )  # fmt: skip
        taken: dict[tuple[str, str, int], int] = {}
        for job_id, share in shares.items():
            for slot in share.slots:
                for index in slot.indices:
                    other = taken.setdefault((slot.name, slot.type, index), job_id)
                    if other != job_id:
                        raise SimulationError(
                            f"{host.name}: {slot.name}:{slot.type} {index} is held by jobs "
                            f"{other} and {job_id}", (other, job_id),
                        )  # fmt: skip


def _ranks(step: FakeStep) -> tuple[int, ...]:
    """Ranks of the step's tasks that run on its host."""
    layout = step.order.layout
    if layout is None:
        return (0,)
    first = 0
    for node, tasks in zip(layout.nodes, layout.tasks_per_node, strict=True):
        if node == step.host.name:
            return tuple(range(first, first + tasks))
        first += tasks
    raise SimulationError(
        f"{_name(step.key)} was sent to {step.host.name}, which is not in its layout {layout.nodes}",
        (step.key.job_id,),
    )


def _name(key: StepKey) -> str:
    step = "batch" if key.step == BATCH_STEP else str(key.step)
    return f"{key.job_id}.{step} (attempt {key.attempt})"


def _how(end: StepEnded) -> str:
    text = f"{end.cause.name} code {end.exit_code} signal {end.signal}"
    return f"{text}: {end.message}" if end.message else text
