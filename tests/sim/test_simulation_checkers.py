"""The checkers catch what they are there for: one piece is broken on purpose, and a seed fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from crane.jobspec import JobSpec, Submission
from cranectld.core.commands import PlannedStart, SubmitJobs
from cranectld.core.events import Logged
from cranectld.shell.clock import Clock as EventTime
from cranectld.sim.clock import MS, Timer, seconds
from cranectld.sim.controller import SimulatedController
from cranectld.sim.disk import FakeLog, FakeSpool, StepRecord
from cranectld.sim.host import Behaviour, FakeHost, FakeStep
from cranectld.sim.messages import Hello
from cranectld.sim.network import Stream
from cranectld.sim.planning import NaivePlanner, RealPlanner
from cranectld.sim.truth import SimulationError
from cranectld.sim.users import ANN, SCRIPT
from cranectld.sim.world import Options, World
from craned.core import lease

SEEDS = range(1, 16)


def fails(
    breaking: Callable[[World], None], options: Options | None = None, saying: str = ""
) -> list[str]:
    """What the checkers say about the first seeds with a broken piece, until one fails (with these
    words).
    """
    for seed in SEEDS:
        world = World(seed, options or Options())
        breaking(world)
        try:
            world.run()
        except AssertionError as error:
            if saying in str(error):
                return [str(error)]
    return []


class ForgetfulSpool(FakeSpool):
    """Claims nothing: whoever asks may run a step."""

    def find(self, key: object) -> StepRecord | None:
        return None

    def claim(self, key: object, now: int) -> StepRecord | None:
        self.records.pop(key, None)  # type: ignore[call-overload]
        return super().claim(key, now)  # type: ignore[arg-type]


def test_a_step_that_is_launched_twice_is_noticed() -> None:
    def breaking(world: World) -> None:
        for host in world.hosts.values():
            host.spool = ForgetfulSpool(host.spool.spool_id)
            once = host.launch

            def twice(*order: object, once: Callable[..., None] = once) -> None:
                once(*order)
                once(*order)

            host.launch = twice  # type: ignore[method-assign, assignment]

    said = fails(breaking, Options(faults=False))
    assert said
    assert "is run twice" in said[0]


class HastyController(SimulatedController):
    """Releases replies and effects before the log is durable."""

    def _write(self) -> None:
        self._durable = self.state.seq
        self._release()
        super()._write()


def test_an_acknowledged_job_that_is_lost_is_noticed() -> None:
    world = World(1, Options())
    world.make_controller = HastyController
    world.start()
    world.run_until(world.clock.now + seconds(2))
    job = Submission(JobSpec(begin=world.clock.now + seconds(100)), script=SCRIPT)

    def acknowledged(answer: object) -> None:
        assert isinstance(answer, tuple)
        world.checks.was_acknowledged(answer[0])
        world.clock.after(0, world.controller_died, "append")

    world.call(SubmitJobs(ANN, (job,)), acknowledged)
    world.rng.seed(5)
    with pytest.raises(SimulationError, match="job 1 was acknowledged and is lost") as found:
        world.run_until(world.clock.now + seconds(20))
    assert found.value.jobs == (1,)


def test_effects_that_run_ahead_of_the_log_are_noticed() -> None:
    def breaking(world: World) -> None:
        world.make_controller = HastyController

    said = fails(breaking, Options(faults=False))
    assert said
    assert "the log does not know that it was started" in said[0]


class LyingLog(FakeLog):
    """Says that rows are durable, and loses the newest one in a crash all the same."""

    def crash(self, rng: object) -> int:
        del self.rows[-1:]
        return super().crash(rng)  # type: ignore[arg-type]


def test_a_durable_row_that_is_lost_is_noticed() -> None:
    def breaking(world: World) -> None:
        world.log = LyingLog()
        world.faults._kinds["controller"] = 5.0

    said = fails(breaking)
    assert said
    assert "differs from the fold of its log" in said[0] or "gap in the log" in said[0]


def test_oversubscription_is_noticed_from_what_truly_runs() -> None:
    def breaking(world: World) -> None:
        for host in world.hosts.values():
            world.clock.after(seconds(5), setattr, host, "cpus", host.cpus // 2)

    said = fails(breaking, Options(faults=False))
    assert said
    assert "is oversubscribed" in said[0]


class GreedyPlanner(NaivePlanner):
    """Proposes every start twice: the commit must refuse what does not fit."""

    def propose(self) -> tuple[PlannedStart, ...]:
        starts = super().propose()
        return starts + starts


class GreedyController(SimulatedController):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.planner = GreedyPlanner(self)


def test_a_greedy_planner_is_held_in_check_by_the_commit() -> None:
    def breaking(world: World) -> None:
        world.make_controller = GreedyController

    assert fails(breaking, Options(faults=False)) == []


def test_two_attempts_that_live_at_once_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def undying(self: FakeHost, step: FakeStep, grace: int, cause: object) -> None:
        """Whatever is told to end goes on."""

    monkeypatch.setattr(FakeHost, "_stop", undying)

    def breaking(world: World) -> None:
        world.config = replace(
            world.config,
            timeouts=replace(world.config.timeouts, node=4.0, lease=5.0, lost_contact="kill"),
        )
        world.faults._kinds = dict.fromkeys(world.faults._kinds, 0.0) | {"partition": 1.0}
        world.faults._period = seconds(3)

    said = fails(breaking, saying=" begins on ")
    assert said
    assert " lives on " in said[0]


class CredulousController(SimulatedController):
    """Registers on the word of a Hello, however long that was under way."""

    def _hello(self, stream: Stream, hello: Hello) -> None:
        super()._hello(stream, hello)
        guest = self._guests.pop(stream, None)
        if guest is not None:
            self._register(guest)


@pytest.mark.parametrize("credulous", [True, False])
def test_a_hello_of_an_earlier_boot_is_told_from_one_of_now(credulous: bool) -> None:
    world = World(1, Options(nodes=1, faults=False), behave=lambda _: Behaviour(seconds(30)))
    if credulous:
        world.make_controller = CredulousController
    (host,) = world.hosts.values()
    world.start()
    world.run_until(world.clock.now + seconds(5))
    # given an agent that dials again over a slow network, and whose host loses its power then
    world.network.delay = lambda: seconds(2)  # type: ignore[method-assign]
    agent = host.agent
    assert agent is not None
    agent._hang_up()
    agent._dial()
    host.switch_off()
    # when the host is back, and runs a job, before that Hello arrives
    world.network.delay = lambda: MS  # type: ignore[method-assign]
    host.switch_on()
    world.call(SubmitJobs(ANN, (Submission(JobSpec(requeue=True), script=SCRIPT),)))
    world.run_until(world.clock.now + seconds(10))
    controller = world.controller
    assert controller is not None
    # then the job goes on: its host was not taken for one that had lost it
    assert (controller.state.jobs[1].restarts == 0) is not credulous


class WallTime(EventTime):
    """Takes a wall clock that is set for time that has passed."""

    def now(self) -> int:
        self._last = max(self._last, self._wall())
        return self._last


class CarriedAlongController(SimulatedController):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._time = WallTime(self.state.time, world.wall)


@pytest.mark.parametrize("carried_along", [True, False])
def test_a_wall_clock_set_forward_shortens_no_fence(carried_along: bool) -> None:
    def breaking(world: World) -> None:
        if carried_along:
            world.make_controller = CarriedAlongController
        timeouts = replace(world.config.timeouts, node=4.0, lease=60.0, lost_contact="kill")
        world.config = replace(world.config, timeouts=timeouts)
        world.faults._kinds = dict.fromkeys(world.faults._kinds, 0.0) | {"partition": 1.0}
        world.faults._period = seconds(3)

        def set_forward() -> None:
            world.wall_ahead += seconds(100)

        for instant in range(5, 60, 7):
            world.clock.after(seconds(instant), set_forward)

    said = fails(breaking)
    assert bool(said) is carried_along
    if carried_along:
        assert " begins on " in said[0]
        assert " lives on " in said[0]


def told_to_kill(world: World) -> None:
    """A site that keeps its jobs at first, and then wants them killed without contact."""
    terms = {"node": 4.0, "lease": 5.0, "kill_grace": 1, "lost_contact": "keep"}
    timeouts = replace(world.config.timeouts, **terms)
    world.config = replace(world.config, timeouts=timeouts)

    def change_its_mind() -> None:
        world.config = replace(world.config, timeouts=replace(timeouts, lost_contact="kill"))
        if world.controller is not None:
            world.controller.reconfigure()

    world.clock.after(seconds(20), change_its_mind)


@pytest.mark.parametrize("believed", [True, False])
def test_terms_that_are_believed_before_the_shims_follow_are_noticed(
    monkeypatch: pytest.MonkeyPatch, believed: bool
) -> None:
    if believed:
        monkeypatch.setattr(lease, "look_gap", lambda _: -lease.SLACK)
    options = Options(nodes=2, faults=False)
    world = World(1, options, behave=lambda _: Behaviour(seconds(1000)))
    told_to_kill(world)
    world.start()
    world.call(SubmitJobs(ANN, (Submission(JobSpec(requeue=True), script=SCRIPT),)))
    world.run_until(world.clock.now + seconds(22))
    # when the agent dies right after it has been told
    (host,) = (host for host in world.hosts.values() if host.steps)
    assert host.agent is not None
    host.agent.die()
    if believed:
        with pytest.raises(SimulationError, match=" lives on "):
            world.run_until(world.clock.now + seconds(60))
    else:
        world.run_until(world.clock.now + seconds(60))
        assert not host.steps, "its shim has looked meanwhile"
        assert world.truth.count == 1, "but nobody could know when it would"


def test_steps_that_were_to_be_kept_follow_a_change_of_mind_and_soon_have_a_fence() -> None:
    options = Options(nodes=1, faults=False, jobs=1)
    world = World(1, options, behave=lambda _: Behaviour(seconds(1000)))
    (host,) = world.hosts.values()
    told_to_kill(world)
    world.start()
    world.call(SubmitJobs(ANN, (Submission(JobSpec(), script=SCRIPT),)))
    world.run_until(world.clock.now + seconds(45))
    controller = world.controller
    assert controller is not None
    # when the host is cut off for good
    assert len(host.steps) == 1
    world.network.cut(host.name, seconds(1000))
    world.run_until(world.clock.now + seconds(5))
    run = controller.state.jobs[1].run
    assert run is not None
    fence = run.fences[host.name]
    assert controller.now < fence < controller.now + seconds(10)
    # then nothing is left when its fence has passed
    world.run_until(world.clock.now + (fence - controller.now))
    assert not host.steps


class DriftingController(SimulatedController):
    """Changes its state behind the log's back."""

    def _check_contacts(self) -> None:
        for job in list(self.state.jobs.values())[:1]:
            job.cpu_us += 1
        super()._check_contacts()


def test_a_state_changed_behind_the_log_is_noticed() -> None:
    def breaking(world: World) -> None:
        world.make_controller = DriftingController

    said = fails(breaking, Options(faults=False))
    assert said
    assert "the state differs from the fold of its log in jobs" in said[0]


class DeafPlanner(RealPlanner):
    """Misses every seventh batch of changes."""

    told = 0

    def applied(self, events: Sequence[Logged], /) -> None:
        self.told += 1
        super().applied(events)
        if self.told % 7 == 0:
            self._inbox.clear()


class DeafController(SimulatedController):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.planner = DeafPlanner(self)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("compiled_kernels")
def test_planner_tables_that_missed_a_change_are_noticed() -> None:
    def breaking(world: World) -> None:
        world.make_controller = DeafController

    said = fails(breaking, Options(faults=False))
    assert said
    assert "planner's tables differ" in said[0]


def test_jobs_that_never_end_are_named() -> None:
    def lose(self: FakeHost, report: object) -> None:
        """The launcher tells nothing."""

    world = World(4, Options(faults=False))
    for host in world.hosts.values():
        host._tell = lose.__get__(host)  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match="never ended") as found:
        world.run()
    assert found.value.jobs


def test_a_timer_of_a_dead_process_does_not_fire() -> None:
    world = World(1, Options(faults=False))
    world.start()
    assert world.controller is not None
    fired: list[int] = []
    timer = world.clock.after(5, fired.append, 1, owner=world.controller)
    assert isinstance(timer, Timer)
    world.controller.alive = False
    world.run_until(world.clock.now + seconds(1))
    assert not fired
