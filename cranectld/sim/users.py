"""The users of a seed: what they submit, and what they do to it afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crane.jobspec import (
    UNLIMITED,
    ArraySpec,
    BlobRef,
    Component,
    Dependency,
    DependencyKind,
    DependencyTerm,
    Gres,
    JobSpec,
    Submission,
)
from crane.states import ENDED
from cranectld.core.commands import (
    ApplyConfig,
    CancelJobs,
    ChangeNodes,
    Command,
    HoldJobs,
    JobChanges,
    NodeAction,
    PastJob,
    ReleaseJobs,
    RequeueJobs,
    SelectedId,
    Selector,
    SignalStep,
    SubmitJobs,
    UpdateJobs,
)
from cranectld.core.identity import Principal
from cranectld.sim.clock import S, seconds

if TYPE_CHECKING:
    from cranectld.sim.world import World

SCRIPT, ENVIRONMENT = BlobRef(1, 0), BlobRef(1, 1)
NAMES = ("train", "eval", "reduce")
ANN, BOB = Principal(1000, 1000, "ann"), Principal(1001, 1001, "bob")
OLGA = Principal(1002, 1002, "olga")
"""An operator."""
PEOPLE = (ANN, ANN, BOB)


class Users:
    """Submits for a while, and meddles with what was submitted."""

    def __init__(self, world: World, jobs: int, period: int) -> None:
        """About `jobs` jobs within `period` ns."""
        self._world = world
        self._left = jobs
        self._period = period
        self._mean = period // max(jobs, 1)
        self._meddle = world.rng.choice((0.1, 0.5, 1.0))
        self._known: list[int] = []
        self._actions = (
            self._cancel, self._cancel, self._hold, self._release, self._requeue, self._update,
            self._operate, self._operate, self._reconfigure, self._signal,
        )  # fmt: skip
        self.active = True

    def start(self) -> None:
        """Begin."""
        self._later()

    def _later(self) -> None:
        delay = round(self._world.rng.expovariate(1.0) * self._mean)
        self._world.clock.after(delay, self._act)

    def _act(self) -> None:
        if not self.active:
            return
        rng = self._world.rng
        if self._left > 0:
            self._submit(min(self._left, rng.choice((1, 1, 1, 2, 5))))
        if self._known and rng.random() < self._meddle:
            command = rng.choice(self._actions)()
            if command is not None:
                self._world.call(command)
        self._later()

    # --- submitting ------------------------------------------------------------------------------

    def _submit(self, count: int) -> None:
        rng = self._world.rng
        self._left -= count
        who = rng.choice(PEOPLE)
        jobs = tuple(self._submission() for _ in range(count))
        command = SubmitJobs(who, jobs, self._world.past_of(jobs))
        self._world.call(command, self._submitted)

    def _submitted(self, answer: object) -> None:
        assert isinstance(answer, tuple)
        for job_id in answer:
            if isinstance(job_id, int):
                self._world.checks.was_acknowledged(job_id)
                self._known.append(job_id)

    def _submission(self) -> Submission:
        rng = self._world.rng
        array = None
        if rng.random() < 0.2:
            last = rng.randint(0, 8)
            array = ArraySpec(((0, last, rng.choice((1, 1, 2))),), limit=rng.choice((0, 0, 1, 3)))
        return Submission(
            spec=self._spec(),
            name=rng.choice(NAMES),
            script=SCRIPT,
            environment=ENVIRONMENT,
            dependency=self._dependency() if rng.random() < 0.25 else None,
            array=array,
            command="job.sh",
        )

    def _spec(self) -> JobSpec:
        rng = self._world.rng
        spec = JobSpec(
            components=(self._component(),),
            partitions=rng.choice(((), ("main",), ("half",), ("late", "main"))),
            time_limit=rng.choice((0, 5, 20, 60, 200, UNLIMITED)),
            nice=rng.choice((0, 0, 10)),
            hold=rng.random() < 0.05,
            requeue=rng.choice((None, True, False)),
        )
        if rng.random() < 0.1:
            spec = replace(spec, begin=self._world.clock.now + rng.randint(0, 60) * S)
        if rng.random() < 0.05:
            spec = replace(spec, deadline=self._world.clock.now + rng.randint(60, 300) * S)
        return spec

    def _component(self) -> Component:
        rng = self._world.rng
        kind = rng.random()
        part = Component(cpus_per_task=rng.choice((500, 1000, 1000, 2000)))
        if kind < 0.2:
            part = replace(part, min_nodes=rng.randint(2, 3), ntasks_per_node=rng.choice((0, 1, 2)))
        elif kind < 0.35:
            part = replace(part, ntasks=rng.randint(2, 6))
        elif kind < 0.4:
            part = replace(part, exclusive=True)
        if rng.random() < 0.2:
            part = replace(part, gres=(Gres("gpu", rng.choice(("", "a100")), rng.randint(1, 2)),))
        if rng.random() < 0.3:
            part = replace(part, mem_per_node=rng.choice((256, 1024)))
        elif rng.random() < 0.2:
            part = replace(part, mem_per_cpu=256)
        if rng.random() < 0.1:
            part = replace(part, features=rng.choice(("fast", "big|fast", "fast&big")))
        if rng.random() < 0.05:
            part = replace(part, nodelist=(f"n{rng.randint(1, 3)}",))
        return part

    def _dependency(self) -> Dependency | None:
        rng = self._world.rng
        kind = rng.choice(tuple(DependencyKind))
        if kind is DependencyKind.SINGLETON:
            return Dependency((DependencyTerm(kind),))
        if not self._known:
            return None
        terms = tuple(
            DependencyTerm(kind, rng.choice(self._known[-20:])) for _ in range(rng.randint(1, 2))
        )
        return Dependency(terms, any_of=rng.random() < 0.3)

    # --- meddling --------------------------------------------------------------------------------

    def _pick(self) -> Selector:
        rng = self._world.rng
        if rng.random() < 0.1:
            return Selector(names=(rng.choice(NAMES),))
        ids = []
        for _ in range(rng.choice((1, 1, 2))):
            job_id = rng.choice(self._known[-30:])
            ranges = ((0, rng.randint(0, 4), 1),) if rng.random() < 0.15 else ()
            ids.append(SelectedId(job_id, ranges))
        return Selector(ids=tuple(ids))

    def _who(self) -> Principal:
        return self._world.rng.choice((*PEOPLE, OLGA))

    def _cancel(self) -> Command:
        signal = self._world.rng.choice((0, 0, 0, 9, 15, 10))
        return CancelJobs(self._who(), self._pick(), signal)

    def _hold(self) -> Command:
        return HoldJobs(self._who(), self._pick())

    def _release(self) -> Command:
        return ReleaseJobs(self._who(), self._pick())

    def _requeue(self) -> Command:
        return RequeueJobs(self._who(), self._pick(), hold=self._world.rng.random() < 0.2)

    def _update(self) -> Command:
        rng = self._world.rng
        changes = rng.choice((
            JobChanges(time_limit=rng.choice((5, 30, 120, UNLIMITED))),
            JobChanges(nice=5),
            JobChanges(partition="main"),
            JobChanges(array_limit=rng.choice((0, 2))),
            JobChanges(name=rng.choice(NAMES), comment="changed"),
            JobChanges(begin=self._world.clock.now + rng.randint(0, 40) * S),
            JobChanges(requeue=True),
            JobChanges(priority=rng.randint(0, 200_000)),
            JobChanges(dependency=self._dependency()),
        ))  # fmt: skip
        return UpdateJobs(self._who(), self._pick(), changes)

    def _operate(self) -> Command | None:
        """An operator and a node. He says ABSENT only of a host that he has found switched off."""
        rng = self._world.rng
        host = rng.choice(list(self._world.hosts.values()))
        if not host.up:
            return ChangeNodes(OLGA, (host.name,), NodeAction.ABSENT, "the host is off")
        action = rng.choice((
            NodeAction.DRAIN, NodeAction.RESUME, NodeAction.RESUME, NodeAction.DOWN, NodeAction.FAIL,
        ))  # fmt: skip
        reason = "" if action == NodeAction.RESUME else "maintenance"
        return ChangeNodes(OLGA, (host.name,), action, reason)

    def _reconfigure(self) -> Command:
        world = self._world
        config = world.config
        timeouts = replace(config.timeouts, kill_grace=world.rng.choice((1, 2, 3)))
        partitions = tuple(
            replace(p, up=p.name == "main" or world.rng.random() < 0.8) for p in config.partitions
        )
        world.config = replace(config, timeouts=timeouts, partitions=partitions)
        return ApplyConfig(Principal(0, 0, "root", admin=True), world.config)

    def _signal(self) -> Command:
        rng = self._world.rng
        return SignalStep(self._who(), rng.choice(self._known), rng.choice((-1, 0)), 15)

    # --- the quiet phase -------------------------------------------------------------------------

    def stop(self) -> None:
        """Nothing more is submitted."""
        self.active = False

    def tidy(self) -> None:
        """Let what is left be able to end: holds lifted, nodes resumed, partitions up, and what
        hangs on a dependency that is never fulfilled is cancelled.
        """
        world = self._world
        world.clock.after(seconds(30), self.tidy)
        controller = world.controller
        if controller is None:
            return
        state = controller.state
        config = world.config
        if not all(p.up for p in config.partitions):
            up = tuple(replace(p, up=True) for p in config.partitions)
            world.config = replace(config, partitions=up)
            world.call(ApplyConfig(Principal(0, 0, "root", admin=True), world.config))
        drained = tuple(n.config.name for n in state.nodes.values() if not n.usable)
        if drained:
            world.call(ChangeNodes(OLGA, drained, NodeAction.RESUME))
        waiting = [job for job in state.jobs.values() if job.state not in ENDED]
        if waiting:
            every = Selector(ids=tuple(SelectedId(job.job_id) for job in waiting))
            world.call(ReleaseJobs(OLGA, every))
        stuck = [job.job_id for job in waiting if world.is_stuck(job)]
        if stuck:
            world.call(CancelJobs(OLGA, Selector(ids=tuple(SelectedId(i) for i in stuck))))


def past_jobs(world: World, jobs: tuple[Submission, ...]) -> tuple[PastJob, ...]:
    """What the read model knows of the jobs these depend on."""
    found: dict[int, PastJob] = {}
    for job in jobs:
        for term in job.dependency.terms if job.dependency is not None else ():
            end = world.checks.ends.get(term.job_id)
            if end is not None and term.job_id in world.checks.forgotten:
                found[term.job_id] = PastJob(
                    term.job_id, -1, end.state, end.exit_code, world.clock.now, world.clock.now
                )
    return tuple(found.values())
