"""A whole cluster in one thread: the same seed makes the same history.

The real controller core, agent core, log codec and planner; everything else, time included, is
drawn from one random generator. A run has two phases: users work while faults strike, then the
faults stop, everything is repaired, and all that was accepted must come to its end.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crane.config.model import ClusterConfig
from crane.jobspec import BATCH_STEP, BlobRef, Submission
from crane.session import EndCause, LaunchStep, StepRequest
from crane.states import ENDED, Reason
from cranectld.core.commands import Command, PastJob, Rejected, StepGranted
from cranectld.core.identity import Principal
from cranectld.core.state import Job
from cranectld.sim.agent import SimulatedAgent
from cranectld.sim.checks import Checks
from cranectld.sim.clock import MS, START, Clock, ProcessDied, seconds
from cranectld.sim.cluster import drawn_cluster
from cranectld.sim.controller import SimulatedController
from cranectld.sim.disk import FakeLog
from cranectld.sim.faults import Faults
from cranectld.sim.host import Behaviour, FakeHost, FakeLauncher, FakeStep
from cranectld.sim.messages import StepAsked
from cranectld.sim.network import Network
from cranectld.sim.story import Story
from cranectld.sim.truth import SimulationError, Truth
from cranectld.sim.users import ENVIRONMENT, PEOPLE, Users, past_jobs

if TYPE_CHECKING:
    from crane.config.model import NodeConfig

QUIET_LIMIT = seconds(2 * 3600)
"""Once faults have stopped everything must be over by then."""


@dataclass(frozen=True, slots=True)
class Options:
    """What kind of world."""

    nodes: int = 0
    """0: 3 to 5, drawn."""
    jobs: int = 20
    """Submissions, about (an array is one)."""
    period: float = 60.0
    """Seconds in which they come, and in which faults strike."""
    planner: str = "naive"
    """`naive` or `real` (sched_core, needs its kernels compiled)."""
    faults: bool = True
    checking: bool = True
    """Check everything after every step; off for benches."""
    recording: bool = False
    """Collect the story."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    seed: int
    digest: str
    """Of the log and of what was run: equal for equal seeds and sources."""
    steps: int
    jobs: int
    executions: int
    appends: int
    simulated: float
    """Seconds."""
    faults: dict[str, int]


class World:
    """Made, then `run`; or stepped by a benchmark."""

    def __init__(
        self,
        seed: int,
        options: Options | None = None,
        config: ClusterConfig | None = None,
        behave: Callable[[LaunchStep], Behaviour] | None = None,
    ) -> None:
        """`config`: instead of a drawn one. `behave`: what steps do, instead of drawing it."""
        self.seed = seed
        self.options = options or Options()
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.checking = self.options.checking
        self.clock = Clock()
        self.story = Story(self.clock, recording=self.options.recording)
        self.wall_ahead = 0
        """ns by which the wall clock of the controller's host is set wrong."""
        self.network = Network(self.clock, self.rng)
        self.log = FakeLog()
        self.truth = Truth(self)
        self.checks = Checks(self)
        self.config = config or drawn_cluster(
            self.rng, self.options.nodes or self.rng.choice((3, 4, 5))
        )
        self.faults = Faults(self)
        self.controller: SimulatedController | None = None
        self.make_controller: Callable[[World], SimulatedController] = SimulatedController
        """What is started as the controller; tests put in broken ones."""
        self._behave = behave
        self._digest = hashlib.blake2b(digest_size=8)
        self._asked = 0
        self.hosts = {config.name: self._host(config) for config in self.config.nodes}
        self.users = Users(self, self.options.jobs, seconds(self.options.period))

    def _host(self, config: NodeConfig) -> FakeHost:
        """The machine behind a node's configuration: what is promised is there."""
        cpus = config.cpus or self.rng.choice((2000, 4000))
        host = FakeHost(self, config, cpus, config.memory or 4096)
        if self.options.faults:
            host.skew = self.rng.choice((0, 0, seconds(-1.5), seconds(2), 50 * MS))
        return host

    # --- running ---------------------------------------------------------------------------------

    def run(self) -> Result:
        """Both phases and the final checks. Raises SimulationError, or an assertion of a core."""
        self.begin()
        self.run_until(self.clock.now + seconds(self.options.period))
        self.settle()
        return self.result()

    def begin(self) -> None:
        """Switch everything on, let users work and faults strike."""
        self.start()
        self.users.start()
        if self.options.faults:
            self.faults.start()

    def start(self) -> None:
        """Switch everything on."""
        self._start_controller()
        for host in self.hosts.values():
            self.clock.after(self.draw(0, seconds(1)), self.start_agent, host)

    def settle(self) -> None:
        """Faults stop, everything is repaired, and what was accepted comes to its end."""
        self.users.stop()
        self.faults.stop()
        self.faults.repair()
        self.users.tidy()
        deadline = self.clock.now + QUIET_LIMIT
        while not self.over:
            if self.clock.now > deadline:
                break
            self.run_until(self.clock.now + seconds(5))
        if self.checking:
            self.checks.final()

    def run_until(self, instant: int) -> None:
        """Let everything happen that is due by then."""
        clock = self.clock
        while (time := clock.next_time()) is not None and time <= instant:
            self.step()
        clock.now = max(clock.now, instant)

    def step(self) -> None:
        """Let one thing happen, which may be somebody's death."""
        happening: Callable[[], object] | None = self.clock.step
        while happening is not None:
            try:
                happening()
            except ProcessDied as death:
                happening = functools.partial(self._died, death)
            else:
                happening = None

    @property
    def over(self) -> bool:
        """Whether all jobs have ended, and nobody has anything left to say."""
        controller = self.controller
        if controller is None or not controller.quiet:
            return False
        if any(job.state not in ENDED for job in controller.state.jobs.values()):
            return False
        return all(
            host.agent is not None and not host.agent.state.jobs and not host.agent.state.unsent
            and not host.agent.state.sent and not host.steps and not host.spool.records
            for host in self.hosts.values()
        )  # fmt: skip

    def result(self) -> Result:
        """Figures of the run so far."""
        controller = self.controller
        digest = self._digest.copy()
        digest.update(f"{self.clock.steps} {self.clock.now} {self.truth.count}".encode())
        return Result(
            seed=self.seed,
            digest=digest.hexdigest(),
            steps=self.clock.steps,
            jobs=controller.state.next_job_id - 1 if controller is not None else 0,
            executions=self.truth.count,
            appends=self.log.appends,
            simulated=(self.clock.now - START) / seconds(1),
            faults=dict(sorted(self.faults.counts.items())),
        )

    def digest(self, row: bytes) -> None:
        """Make a durable row part of the run's digest."""
        self._digest.update(row)

    def wall(self) -> int:
        """The wall clock of the controller's host."""
        return self.clock.now + self.wall_ahead

    # --- chance ----------------------------------------------------------------------------------

    def draw(self, low: float, high: float) -> int:
        """A duration between two (ns)."""
        return round(low + (high - low) * self.rng.random())

    def behaviour(self, order: LaunchStep) -> Behaviour:
        """What a step will do."""
        if self._behave is not None:
            return self._behave(order)
        rng = self.rng
        duration = round(rng.choice((0.02, 1.0, 5.0, 30.0)) * rng.expovariate(1.0) * seconds(1))
        fate = rng.random()
        crun = rng.choice((0, 1, 3)) if len(order.shares) > 1 else int(rng.random() < 0.1)
        ignores = rng.random() < 0.2
        if fate < 0.70:
            return Behaviour(duration, ignores_term=ignores, crun_steps=crun)
        if fate < 0.82:
            return Behaviour(duration, exit_code=rng.choice((1, 2, 127)), crun_steps=crun)
        if fate < 0.90:
            return Behaviour(duration, signal=rng.choice((6, 9, 11)), ignores_term=ignores)
        if fate < 0.95:
            return Behaviour(duration, EndCause.OUT_OF_MEMORY, signal=9)
        return Behaviour(duration, fails_to_launch=True)

    # --- users -----------------------------------------------------------------------------------

    def call(self, command: Command, answered: Callable[[object], None] | None = None) -> None:
        """Send a user's command; `answered` is not called if it is refused or nobody answers."""
        self.story.asked(command)

        def arrive() -> None:
            if self.controller is not None:
                self.controller.submit(command, reply)

        def reply(answer: object) -> None:
            if answered is not None and not isinstance(answer, Rejected):
                answered(answer)

        self.clock.after(self.network.delay(), arrive)

    def principal(self, uid: int) -> Principal:
        """Who has this uid."""
        return next(who for who in PEOPLE if who.uid == uid)

    def past_of(self, jobs: tuple[Submission, ...]) -> tuple[PastJob, ...]:
        """What the read model knows of jobs these depend on, that have left memory."""
        return past_jobs(self, jobs)

    def is_stuck(self, job: Job) -> bool:
        """Whether a job waits for what will never come."""
        return job.reason is Reason.DEPENDENCY_NEVER_SATISFIED or (
            self.clock.now - job.submit_time > seconds(3600)
        )

    # --- crun ------------------------------------------------------------------------------------

    def ask_step(self, step: FakeStep) -> None:
        """The batch script calls `crun`."""
        agent = step.host.agent
        if agent is None or step.key.step != BATCH_STEP:
            return
        self._asked += 1
        request = StepRequest(
            argv=BlobRef(ENVIRONMENT.pack + self._asked, 0), environment=ENVIRONMENT,
            name="hostname", ticket=b"t", endpoint=step.host.name,
            min_nodes=self.rng.choice((0, 1)), overlap=self.rng.random() < 0.5,
        )  # fmt: skip
        agent.ask(StepAsked(self._asked, step.key.job_id, step.order.uid, request))

    def step_answered(self, number: int, answer: StepGranted | Rejected) -> None:
        """`crun` was answered; its output is of no interest here."""
        self.story.note(f"crun {number}: {answer}")

    # --- processes -------------------------------------------------------------------------------

    def _start_controller(self) -> None:
        if self.controller is None:
            self.controller = self.make_controller(self)
            self.controller.start()

    def start_agent(self, host: FakeHost) -> None:
        """A craned starts on a host that is up."""
        if host.up and host.agent is None:
            host.agent = SimulatedAgent(self, host)
            host.agent.start()

    def _died(self, death: ProcessDied) -> None:
        """A fault at a seam."""
        process = death.process
        if isinstance(process, SimulatedController):
            self.controller_died(death.seam)
        elif isinstance(process, SimulatedAgent):
            self.agent_died(process.host, death.seam)
        elif isinstance(process, FakeStep):
            self.faults.count(f"shim at {death.seam}", f"{process.host.name} {tuple(process.key)}")
            process.host.kill_shim(process)
        else:
            assert isinstance(process, FakeLauncher)
            host = next(host for host in self.hosts.values() if host.launcher is process)
            self.faults.count(f"launcher at {death.seam}", host.name)
            host.launcher_died()

    def controller_died(self, seam: str) -> None:
        """The controller is killed, and started again after a while."""
        controller = self.controller
        assert controller is not None
        controller.alive = False
        self.controller = None
        self.network.process_died(controller)
        before = len(self.log.rows)
        kept = self.log.crash(self.rng)
        self.faults.count(f"controller at {seam}", f"{kept} rows that were not synced survived")
        self.checks.survived(self.log.rows[before:])
        self.clock.after(self.draw(50 * MS, seconds(8)), self._start_controller)

    def agent_died(self, host: FakeHost, seam: str) -> None:
        """A craned is killed, and started again after a while; its jobs run on."""
        assert host.agent is not None
        self.faults.count(f"agent at {seam}", host.name)
        host.agent.die()
        self.clock.after(self.draw(50 * MS, seconds(15)), self.start_agent, host)


def simulate(seed: int, options: Options | None = None) -> Result:
    """Run one seed to its end. Raises SimulationError or AssertionError."""
    return World(seed, options).run()


__all__ = ["Options", "Result", "SimulationError", "World", "simulate"]
