"""A fake host: it "runs" steps as the real launcher and its shims would, and can be switched off.

What the agent's core may rely on is kept exactly: a step is claimed on disk before anything of it
runs, so it runs at most once whatever is ordered twice; shims survive the agent and the launcher;
an end is on disk before it is told, and is told until it is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crane.config.model import NodeConfig
from crane.jobspec import BATCH_STEP
from crane.session import EndCause, LaunchStep, StepEnded, StepKey, StepStarted
from cranectld.sim.clock import MS, Process, Timer, seconds
from cranectld.sim.disk import FakeSpool, StepRecord
from craned.core.stimuli import Contact
from craned.exec.lease import LastWord, LeaseWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from cranectld.sim.agent import SimulatedAgent
    from cranectld.sim.world import World

SIGTERM, SIGKILL = 15, 9


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a step will do if it is left alone."""

    duration: int
    """ns"""
    cause: EndCause = EndCause.EXIT
    exit_code: int = 0
    signal: int = 0
    ignores_term: bool = False
    fails_to_launch: bool = False
    crun_steps: int = 0
    """How many steps the batch script makes with `crun`."""


class FakeWatch(LeaseWatch):
    """The shim's own, on the fake spool."""

    def __init__(self, host: FakeHost, leased: bool) -> None:
        self._host = host
        super().__init__("", lambda: host.now, leased=leased)

    def _read(self) -> LastWord | None:
        contact = self._host.spool.contact
        if contact is None:
            return None
        return LastWord(
            "", contact.epoch, contact.lease, contact.kill, contact.renewed, contact.settled
        )


class FakeStep(Process):
    """A step that runs here: the shim and the user's processes as one."""

    __slots__ = (
        "behaviour", "host", "key", "lease", "limit", "look", "order", "pid", "record", "start",
        "stopping",
    )  # fmt: skip

    def __init__(
        self,
        host: FakeHost,
        order: LaunchStep,
        record: StepRecord,
        behaviour: Behaviour,
        leased: bool,
    ) -> None:
        super().__init__()
        self.lease = FakeWatch(host, leased)
        self.host = host
        self.order = order
        self.key = order.key
        self.record = record
        self.behaviour = behaviour
        self.start = 0
        """Instant (of the world) at which the user's code began; 0: not yet."""
        self.pid = 0
        self.limit: Timer | None = None
        self.look: Timer | None = None
        """At the lease, the next time."""
        self.stopping: EndCause | None = None


class FakeLauncher(Process):
    """The launcher process; a new one takes over from the spool when it dies."""

    __slots__ = ()


class FakeHost:
    """One machine: its boot, its spool, what runs on it, and its agent."""

    def __init__(self, world: World, config: NodeConfig, cpus: int, memory: int) -> None:
        """`cpus` in thousandths, `memory` in MiB: what an inventory finds here."""
        self.world = world
        self.name = config.name
        self.config = config
        self.cpus = cpus
        self.memory = memory
        self.boots = 1
        self.spools = 1
        self.up = True
        self.spool = FakeSpool(self._spool_id())
        self.steps: dict[StepKey, FakeStep] = {}
        """What is alive here, in truth."""
        self.launcher = FakeLauncher()
        self.agent: SimulatedAgent | None = None
        self.incarnations = 0
        self.skew = 0
        """ns by which its clock is ahead of the controller's."""
        self._pids = 1000
        world.clock.after(seconds(1), self._write_back)

    @property
    def boot_id(self) -> str:
        """Of the present boot."""
        return f"{self.name}-boot-{self.boots}"

    @property
    def now(self) -> int:
        """The host's clock."""
        return self.world.clock.now + self.skew

    def _spool_id(self) -> str:
        return f"{self.name}-spool-{self.spools}"

    def _write_back(self) -> None:
        if self.up:
            self.spool.sync()
        self.world.clock.after(seconds(5), self._write_back)

    # --- orders of the agent ---------------------------------------------------------------------

    def launch(self, order: LaunchStep, leased: bool) -> None:
        """Start a step, or answer what has become of it. `leased`: under `lost_contact = kill`."""
        self.world.clock.after(
            self.world.draw(0.2 * MS, 3 * MS), self._launch, order, leased, owner=self.launcher
        )

    def _launch(self, order: LaunchStep, leased: bool) -> None:
        record = self.spool.find(order.key)
        if record is not None:
            self._answer(record)
            return
        self.world.faults.hit(self.launcher, "fork")
        record = self.spool.claim(order.key, self.now)
        assert record is not None
        behaviour = self.world.behaviour(order)
        step = FakeStep(self, order, record, behaviour, leased)
        self.steps[order.key] = step
        self._look_at_lease(step)
        self.world.clock.after(self.world.draw(0.1 * MS, 2 * MS), self._execute, step, owner=step)

    def _execute(self, step: FakeStep) -> None:
        world, order = self.world, step.order
        world.faults.hit(step, "claimed")
        if step.stopping is not None:
            self._finish(step, step.stopping, 0, SIGKILL, "killed before it began")
            return
        if step.behaviour.fails_to_launch:
            why = "the work directory does not exist"
            self._finish(step, EndCause.LAUNCH_FAILED, 0, 0, why)
            return
        step.start = world.clock.now
        self._pids += 1
        step.pid = self._pids
        world.truth.executed(step)
        step.record.started = StepStarted(step.key, self.now, step.pid)
        self._tell(step.record.started)
        world.clock.after(step.behaviour.duration, self._run_out, step, owner=step)
        late = max(0, order.start_time - self.now)  # the controller's clock was set forward
        self._arm(step, order.end_time and order.end_time - late)
        if order.key.step == BATCH_STEP:
            for _ in range(step.behaviour.crun_steps):
                delay = world.draw(0, step.behaviour.duration)
                world.clock.after(delay, world.ask_step, step, owner=step)

    def _arm(self, step: FakeStep, end_time: int) -> None:
        """The shim keeps the time limit (by this host's clock)."""
        if step.limit is not None:
            step.limit.cancel()
            step.limit = None
        if end_time:
            grace = step.order.kill_grace
            step.limit = self.world.clock.at(
                end_time - self.skew, self._stop, step, grace, EndCause.TIMEOUT, owner=step
            )

    def kill(self, key: StepKey, grace: int, cause: EndCause) -> None:
        """SIGTERM, `grace` seconds, SIGKILL."""
        step = self.steps.get(key)
        if step is None or not step.alive:
            return
        self._stop(step, grace, cause)

    def _stop(self, step: FakeStep, grace: float, cause: EndCause) -> None:
        step.stopping = step.stopping or cause
        if not step.start:
            return
        if step.behaviour.ignores_term and grace > 0:
            self.world.clock.after(seconds(grace), self._killed, step, SIGKILL, owner=step)
        else:
            signal = SIGTERM if grace > 0 else SIGKILL
            self.world.clock.after(
                self.world.draw(MS, 50 * MS), self._killed, step, signal, owner=step
            )

    def _killed(self, step: FakeStep, signal: int) -> None:
        assert step.stopping is not None
        self._finish(step, step.stopping, 0, signal)

    def signal(self, key: StepKey, signal: int) -> None:
        """Deliver a signal; only SIGKILL and an unhandled SIGTERM end the step."""
        step = self.steps.get(key)
        if step is None or not step.start:
            return
        if signal == SIGKILL or (signal == SIGTERM and not step.behaviour.ignores_term):
            self._finish(step, EndCause.EXIT, 0, signal)

    def set_limit(self, key: StepKey, end_time: int) -> None:
        """A new time limit, as an instant of the controller's clock."""
        step = self.steps.get(key)
        if step is not None:
            self._arm(step, end_time)

    def remember(self, contact: Contact) -> None:
        """Put the last word with a controller on disk. The shims keep the lease by it, as they keep
        the time limit: nothing else is sure to be alive when it runs out.
        """
        self.spool.contact = contact

    def _look_at_lease(self, step: FakeStep) -> None:
        if step.lease.over():
            self._stop(step, max(0, step.order.kill_grace - step.lease.passed()), EndCause.LOST)
            return
        wait = seconds(min(step.lease.wait(), 1e6)) + 1  # a float of seconds: not a moment too soon
        step.look = self.world.clock.after(wait, self._look_at_lease, step, owner=step)

    def forget(self, key: StepKey) -> None:
        """The controller knows the end."""
        record = self.spool.records.get(key)
        if record is not None and record.end is not None:
            del self.spool.records[key]

    # --- ends ------------------------------------------------------------------------------------

    def _run_out(self, step: FakeStep) -> None:
        behaviour = step.behaviour
        cause = behaviour.cause if step.stopping is None else step.stopping
        self._finish(step, cause, behaviour.exit_code, behaviour.signal)

    def _finish(
        self, step: FakeStep, cause: EndCause, exit_code: int, signal: int, message: str = ""
    ) -> None:
        """Nothing of the step is left: record it, then tell."""
        world = self.world
        step.alive = False
        for timer in (step.limit, step.look):
            if timer is not None:
                timer.cancel()
        del self.steps[step.key]
        lasted = (world.clock.now - step.start) // 1000 if step.start else 0
        end = StepEnded(
            step.key, cause, exit_code, signal, message, step.record.claimed,
            max(self.now, step.record.claimed), lasted, 1 << 20,
        )  # fmt: skip
        world.truth.ended(step, end)
        step.record.end = end
        world.faults.hit(self.launcher, "exit-record")
        self._tell(end)

    def _tell(self, report: StepStarted | StepEnded) -> None:
        """From shim to launcher to agent; if one of them is away the spool tells it later."""
        if self.launcher.alive and self.agent is not None:
            self._call_agent(self.agent.told, (report,))

    def _answer(self, record: StepRecord) -> None:
        report = record.end or record.started
        if report is not None and self.agent is not None:
            self._call_agent(self.agent.told, (report,))

    def _call_agent(self, action: Callable[..., None], *arguments: object) -> None:
        """In order: the launcher's socket is a stream."""
        assert self.agent is not None
        self.agent.ordered(self.world.draw(0.05 * MS, MS), action, *arguments)

    # --- faults ----------------------------------------------------------------------------------

    def kill_shim(self, step: FakeStep) -> None:
        """The shim of a step is killed: the launcher kills what it left, and says LOST."""
        self._finish(step, EndCause.LOST, 0, 0, "the shim that ran the step was killed")

    def launcher_died(self) -> None:
        """Another launcher is started by the agent, and reads the spool."""
        self.launcher.alive = False
        self.launcher = FakeLauncher()
        agent = self.agent
        if agent is not None:
            self.world.clock.after(
                self.world.draw(50 * MS, 500 * MS), self._revive, self.launcher, agent, owner=agent
            )

    def _revive(self, launcher: FakeLauncher, agent: SimulatedAgent) -> None:
        if launcher is not self.launcher or agent is not self.agent:
            return
        for record in list(self.spool.records.values()):
            self._answer(record)
        agent.launcher_revived()

    def switch_off(self) -> None:
        """Everything on the host dies at once; what was not written back may be lost."""
        self.up = False
        self.world.network.host_died(self.name)
        if self.agent is not None:
            self.agent.die(reset=False)
        self.launcher.alive = False
        for step in list(self.steps.values()):
            step.alive = False
            self.world.truth.vanished(step)
        self.steps.clear()
        self.spool.power_cut(self.world.rng)

    def switch_on(self, *, new_spool: bool = False) -> None:
        """A new boot; with `new_spool` the disk was replaced too."""
        assert not self.up
        self.up = True
        self.boots += 1
        self.launcher = FakeLauncher()
        if new_spool:
            self.spools += 1
            self.spool = FakeSpool(self._spool_id())
        self.spool.bury(self.now)
        contact = self.spool.contact
        if contact is not None:  # nothing of an earlier boot is alive: its lease binds nobody
            self.spool.contact = Contact(contact.epoch, 0, contact.kill, 0)
        self.world.start_agent(self)
