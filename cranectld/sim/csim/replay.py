"""Runs a replay beside the terminal: a thread works, without the GIL, while this one watches it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cranectld.sim.csim.errors import CsimError
from cranectld.sim.csim.machine import Machine
from cranectld.sim.csim.workload import Workload
from sched_core.columns import Ints

if TYPE_CHECKING:
    from cranectld.sim.csim.site import Site

WATCH = 0.1
"""Seconds between two looks at the progress."""


Progress = Callable[[int, int], None]
"""Told from time to time how many jobs have started, and how many there are."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A policy and what goes with it."""

    policy: str
    order: str = "fcfs"
    depth: int = 0
    clairvoyant: bool = False
    window: int = 0
    """Seconds within which starts are promised (conservative, on nodes); 0: no bound."""
    resolution: int = 1
    """Seconds that promised starts are multiples of (conservative, on nodes)."""

    def __str__(self) -> str:
        words = [self.policy]
        words += [self.order] if self.order != "fcfs" else []
        words += [f"depth {self.depth}"] if self.depth else []
        words += [f"window {self.window} s"] if self.window else []
        words += [f"resolution {self.resolution} s"] if self.resolution != 1 else []
        words += ["clairvoyant"] if self.clairvoyant else []
        return ", ".join(words)


LEARNED = ("learned", "learned-always")
"""Policies that learn runtimes and promise starts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A schedule."""

    start: Ints
    """Of each job (s)."""
    promises: int | None = None
    """Jobs that were promised a start; None: the policy does not count them."""
    broken: int = 0
    """Of these, how many started later."""


def replay(
    jobs: Workload,
    machine: Machine,
    scenario: Scenario,
    progress: Progress | None = None,
    site: Site | None = None,
) -> Outcome:
    """The schedule under a policy. Raises CsimError for a policy that the machine does not offer.

    `site`: nodes and requests; without, those of a machine with nodes are plain.
    KeyboardInterrupt ends the replay within an event and is raised on.
    """
    if scenario.clairvoyant:
        jobs = replace(jobs, estimate=jobs.run)
    work, control = _worker(jobs, machine, scenario, site)
    found: list[Outcome] = []
    failed: list[BaseException] = []

    def target() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again by the thread that waits)
            failed.append(error)

    thread = threading.Thread(target=target, name="csim-replay", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(WATCH)
            if progress is not None:
                progress(int(control[0]), len(jobs))
    except BaseException:
        control[1] = 1
        thread.join()
        raise
    if failed:
        raise failed[0]
    return found[0]


def _worker(
    jobs: Workload, machine: Machine, scenario: Scenario, site: Site | None
) -> tuple[Callable[[], Outcome], Ints]:
    """What the thread does, and the cells it shares: jobs started, and stop."""
    if machine.groups or site is not None:
        from cranectld.sim.csim.nodes import replay_on_nodes  # noqa: PLC0415  (many more kernels)
        from cranectld.sim.csim.site import plain_site  # noqa: PLC0415

        load_kernels()
        control = _control()
        where = plain_site(jobs, machine) if site is None else site
        return lambda: Outcome(replay_on_nodes(jobs, where, scenario, control)), control
    if scenario.window or scenario.resolution != 1:
        raise CsimError(f"{scenario}: window and resolution are of passes on nodes; give --nodes")
    if scenario.policy in LEARNED:
        return _learned_worker(jobs, machine, scenario)
    from sched_core import pool  # noqa: PLC0415  (loads numba: not for `csim --help`)

    load_kernels()
    control = _control()

    def work() -> Outcome:
        try:
            start = pool.replay(
                jobs.submit,
                jobs.procs,
                jobs.estimate,
                jobs.run,
                processors=machine.processors,
                policy=pool.PoolPolicy(scenario.policy),
                order=scenario.order,
                depth=scenario.depth,
                control=control,
            )
        except ValueError as error:
            raise CsimError(f"{scenario}: {error}") from error
        return Outcome(start)

    return work, control


def _learned_worker(
    jobs: Workload, machine: Machine, scenario: Scenario
) -> tuple[Callable[[], Outcome], Ints]:
    """As `_worker`, for a policy that learns."""
    from sched_core import learned  # noqa: PLC0415

    if scenario.order != "fcfs" or scenario.depth:
        raise CsimError(f"{scenario}: {scenario.policy} has an order of its own, and no depth")
    load_kernels()
    control = _control()
    always = scenario.policy == "learned-always"
    user = np.zeros(len(jobs), np.int64) if jobs.user is None else jobs.user

    def work() -> Outcome:
        try:
            found = learned.replay(
                jobs.submit,
                jobs.procs,
                jobs.estimate,
                jobs.run,
                user,
                processors=machine.processors,
                threshold=learned.ALWAYS if always else learned.THRESHOLD,
                control=control,
            )
        except ValueError as error:
            raise CsimError(f"{scenario}: {error}") from error
        return Outcome(found.start, found.promises, found.broken)

    return work, control


def _control() -> Ints:
    from sched_core.pool import new_control  # noqa: PLC0415

    return new_control()


def load_kernels() -> None:
    """Compile or load the kernels imported so far."""
    from sched_core import jit  # noqa: PLC0415

    jit.compile_kernels()
