"""Faults: which, how often and when, drawn once per seed; and the seams at which processes die.

Every seed has its own mixture ("swarm testing", Groce et al., ISSTA 2012): most kinds are off in
most seeds, so that rare combinations get long undisturbed runs too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from cranectld.sim.clock import Process, ProcessDied, seconds
from cranectld.sim.cluster import drawn_terms
from cranectld.sim.network import Weather

if TYPE_CHECKING:
    from cranectld.sim.host import FakeHost
    from cranectld.sim.world import World

SEAMS = (
    "decide", "append", "fsync", "reply", "order", "order-sent", "acknowledge",
    "fork", "claimed", "exit-record", "told", "report", "forget",
)  # fmt: skip
"""Of the controller: decided, not appended; written, not durable; durable, nothing released; a reply
released; an order about to be sent; sent; acknowledged. Of a host: the launcher before the claim, the
shim after it, the launcher before it tells an end; the agent before it is told, before it reports,
before it forgets."""

KINDS = (
    "controller", "agent", "launcher", "shim", "reboot", "lose_host", "partition", "break", "power_cut",
    "clock", "terms",
)  # fmt: skip


class Faults:
    """Injects faults until `stop`."""

    def __init__(self, world: World) -> None:
        self._world = world
        rng = world.rng
        self.active = False
        self.counts: dict[str, int] = {}
        self._seams = {name: rng.choice((0.0, 0.0, 0.01, 0.04)) for name in SEAMS}
        self._kinds = {name: rng.choice((0.0, 0.0, 1.0, 3.0)) for name in KINDS}
        self._period = seconds(rng.choice((3.0, 8.0, 20.0)))
        self._weather = Weather(
            slow=rng.choice((0.0, 0.0, 0.02, 0.1)),
            lose=rng.choice((0.0, 0.0, 0.005, 0.02)),
            lose_heartbeat=rng.choice((0.0, 0.3, 0.6)),
            repeat=rng.choice((0.0, 0.05, 0.2)),
        )
        self._actions: dict[str, Callable[[], None]] = {
            "controller": lambda: self._crash_controller("at rest"),
            "agent": self._crash_agent,
            "launcher": self._crash_launcher,
            "shim": self._kill_shim,
            "reboot": self._reboot,
            "lose_host": self._lose_host,
            "partition": self._partition,
            "break": self._break,
            "power_cut": self._power_cut,
            "clock": self._set_clock,
            "terms": self._change_terms,
        }

    def start(self) -> None:
        """Begin."""
        self.active = True
        self._world.network.weather = self._weather
        self._later()

    def stop(self) -> None:
        """No more faults; what is broken stays so until somebody mends it."""
        self.active = False
        self._world.network.weather = Weather()

    def count(self, what: str, subject: str) -> None:
        """Note a fault."""
        self.counts[what] = self.counts.get(what, 0) + 1
        self._world.story.fault(f"{what}: {subject}")

    # --- seams -----------------------------------------------------------------------------------

    def hit(self, process: Process, seam: str) -> None:
        """`process` passes a seam: it may die here. Raises ProcessDied."""
        if not self.active:
            return
        chance = self._seams[seam]
        if chance and self._world.rng.random() < chance:
            raise ProcessDied(process, seam)

    # --- from time to time -----------------------------------------------------------------------

    def _later(self) -> None:
        delay = round(self._world.rng.expovariate(1.0) * self._period)
        self._world.clock.after(delay, self._strike)

    def _strike(self) -> None:
        if not self.active:
            return
        rng = self._world.rng
        names, weights = list(self._kinds), list(self._kinds.values())
        if any(weights):
            self._actions[rng.choices(names, weights)[0]]()
        self._later()

    def _crash_controller(self, seam: str) -> None:
        if self._world.controller is not None:
            self._world.controller_died(seam)

    def _host(self) -> FakeHost | None:
        up = [host for host in self._world.hosts.values() if host.up]
        return self._world.rng.choice(up) if up else None

    def _crash_agent(self) -> None:
        host = self._host()
        if host is not None and host.agent is not None:
            self._world.agent_died(host, "at rest")

    def _crash_launcher(self) -> None:
        host = self._host()
        if host is not None:
            self.count("launcher crash", host.name)
            host.launcher_died()

    def _kill_shim(self) -> None:
        host = self._host()
        if host is not None and host.steps:
            step = self._world.rng.choice(list(host.steps.values()))
            self.count("shim killed", f"{host.name} {tuple(step.key)}")
            host.kill_shim(step)

    def _reboot(self) -> None:
        host = self._host()
        if host is not None:
            self.count("reboot", host.name)
            host.switch_off()
            self._world.clock.after(self._world.draw(seconds(0.5), seconds(40)), self._boot, host)

    def _boot(self, host: FakeHost) -> None:
        if not host.up:
            host.switch_on()

    def _lose_host(self) -> None:
        """It is gone for long; its disk may be replaced before it is back."""
        host = self._host()
        if host is not None:
            self.count("host lost", host.name)
            host.switch_off()
            delay = self._world.draw(seconds(60), seconds(300))
            self._world.clock.after(delay, self._replace, host, self._world.rng.random() < 0.5)

    def _replace(self, host: FakeHost, new_spool: bool) -> None:
        if not host.up:
            host.switch_on(new_spool=new_spool)

    def _partition(self) -> None:
        host = self._host()
        if host is None:
            return
        timeouts = self._world.config.timeouts
        longest = 2 * max(timeouts.node, timeouts.lease)
        duration = self._world.draw(seconds(0.2), seconds(longest))
        self.count("partition", f"{host.name} for {duration / 1e9:.1f} s")
        self._world.network.cut(host.name, duration)

    def _break(self) -> None:
        host = self._host()
        if host is not None:
            self.count("stream broken", host.name)
            self._world.network.break_streams(host.name)

    def _power_cut(self) -> None:
        """Off and on again at once, faster than any time-out."""
        host = self._host()
        if host is not None:
            self.count("power cut", host.name)
            host.switch_off()
            host.switch_on()

    def _set_clock(self) -> None:
        """The wall clock of the controller's host is set: forward or back, a little or far."""
        rng = self._world.rng
        by = round(seconds(rng.choice((0.3, 3.0, 30.0, 300.0))) * rng.uniform(-1.0, 1.0))
        self._world.wall_ahead += by
        self.count("clock set", f"by {by / 1e9:.1f} s")

    def _change_terms(self) -> None:
        """The site changes what becomes of jobs without contact."""
        world = self._world
        terms = drawn_terms(world.rng, world.config.timeouts.node)
        world.config = replace(world.config, timeouts=replace(world.config.timeouts, **terms))
        self.count("terms changed", f"{terms}")
        if world.controller is not None:
            world.controller.reconfigure()

    # --- the quiet phase -------------------------------------------------------------------------

    def repair(self) -> None:
        """Everything that is down comes back."""
        world = self._world
        world.network.mend_all()
        for host in world.hosts.values():
            if not host.up:
                host.switch_on()
