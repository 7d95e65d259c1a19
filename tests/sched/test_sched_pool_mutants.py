"""The pool's tests see errors: each of these mutants of the kernels differs from the oracles.

The kernels' sources are changed as text and run as plain Python, on the small random workloads that
the properties draw too.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

import sched_core
from sched_core.oracle_pool import PoolJob, pool_schedule
from sched_core.oracle_pool_conservative import conservative_schedule

SOURCES = Path(sched_core.__file__).parent
MODULES = ("pool_running", "pool_easy", "pool_profile", "pool_conservative", "pool")
PROCESSORS = 6
EVENTS_MAX = 2000


class Mutant(NamedTuple):
    module: str
    old: str
    new: str


MUTANTS = {
    "shadow one second late": Mutant(
        "pool_easy", "counters[SHADOW] = shadow\n", "counters[SHADOW] = shadow + 1\n"
    ),
    "shadow one second early": Mutant(
        "pool_easy", "counters[SHADOW] = shadow\n", "counters[SHADOW] = shadow - 1\n"
    ),
    "equality at the shadow disallowed": Mutant(
        "pool_easy", "> counters[SHADOW]:", ">= counters[SHADOW]:"
    ),
    "releases at the shadow itself forgotten": Mutant(
        "pool_easy", "available >= need and release > shadow", "available >= need"
    ),
    "extra processors not reduced": Mutant(
        "pool_easy", "counters[EXTRA] -= size", "counters[EXTRA] -= 0"
    ),
    "extra processors reduced by every job": Mutant(
        "pool_easy", "        counters[EXTRA] -= size", "    counters[EXTRA] -= size"
    ),
    "extra processors off by one": Mutant(
        "pool_easy", "size > counters[EXTRA]", "size >= counters[EXTRA]"
    ),
    "head's own processors are extra": Mutant("pool_easy", "= available - need", "= available"),
    "overrun jobs released in the past": Mutant(
        "pool_easy", "max(running[RELEASE, at], now + 1)", "running[RELEASE, at]"
    ),
    "backfill beyond what is free": Mutant(
        "pool_easy", "size > counters[FREE]:", "size > counters[FREE] + 1:"
    ),
    "head starts only with one to spare": Mutant(
        "pool_easy", "PROCS, head] > counters[FREE]", "PROCS, head] >= counters[FREE]"
    ),
    "only new jobs tried after an end": Mutant(
        "pool_easy", "plain and ended == 0 and", "plain and"
    ),
    "only new jobs tried after an overrun": Mutant("pool_easy", " and not overrun", ""),
    "depth off by one": Mutant("pool_easy", "[FIRST] + depth\n", "[FIRST] + depth + 1\n"),
    "square instead of cube": Mutant("pool_easy", "first = ratio * ratio", "first = ratio"),
    "release counted twice": Mutant(
        "pool_running", "+= jobs[PROCS, job]\n", "+= 2 * jobs[PROCS, job]\n"
    ),
    "a job ends at its estimate": Mutant(
        "pool_running", "now + jobs[RUN, job]", "now + jobs[ESTIMATE, job]"
    ),
    "another job's processors released": Mutant(
        "pool_running", "while running[HOLDER, low] != job:", "while low < 0:"
    ),
    "heap sinks to the later child": Mutant(
        "pool_running", "child + 1] < heap[HEAP_END, child]", "child + 1] > heap[HEAP_END, child]"
    ),
    "equal estimates in reverse": Mutant(
        "pool_running", "RANK, other] < jobs[RANK, job]", "RANK, other] > jobs[RANK, job]"
    ),
    "hole must be longer than the job": Mutant("pool_profile", ">= duration", "> duration"),
    "hole must be wider than the job": Mutant(
        "pool_profile", "profile[LEVEL, k] < size", "profile[LEVEL, k] <= size"
    ),
    "a plan reaches one segment too far": Mutant(
        "pool_profile", "range(first, last)", "range(first, last + 1)"
    ),
    "unequal segments joined": Mutant(
        "pool_profile", "k - 1] != profile[LEVEL, k]", "k - 1] < profile[LEVEL, k]"
    ),
    "a moved job keeps its old place": Mutant(
        "pool_conservative", "planned + duration, size)", "planned + duration, 0)"
    ),
    "early end not released in the plan": Mutant(
        "pool_conservative", "release, jobs[PROCS, job])", "release, 0)"
    ),
    "unsettled plans left alone": Mutant("pool_conservative", "counters[UNSETTLED] > 0", "False"),
    "running jobs forgotten when planning anew": Mutant(
        "pool_conservative", "-running[RELEASED, at]", "0"
    ),
    "later jobs compressed first": Mutant(
        "pool_conservative",
        "job = pool.queue[BY_ORDER, at]\n        planned",
        "job = pool.queue[BY_ORDER, counters[LAST] - 1 - at + counters[FIRST]]\n        planned",
    ),
}


def _plain(function: object) -> object:
    return function


def load(monkeypatch: pytest.MonkeyPatch, mutant: Mutant | None) -> ModuleType:
    """The pool's modules as plain Python, one of them changed."""
    jit = ModuleType("sched_core.jit")
    vars(jit).update(kernel=_plain, entry=_plain, inlined=_plain, compile_kernels=lambda: None)
    loaded = {"jit": jit}
    for name in MODULES:
        text = (SOURCES / f"{name}.py").read_text()
        if mutant is not None and mutant.module == name:
            assert mutant.old in text, f"{mutant.old!r} is no longer in {name}"
            text = text.replace(mutant.old, mutant.new)
        for other, module in loaded.items():
            monkeypatch.setitem(sys.modules, f"sched_core.{other}", module)
            monkeypatch.setattr(sched_core, other, module, raising=False)
        loaded[name] = ModuleType(f"sched_core.{name}")
        exec(compile(text, f"{name}.py", "exec"), vars(loaded[name]))
    monkeypatch.undo()
    return loaded["pool"]


class Bounded(list[int]):
    """Control cells that end a replay which would never end by itself."""

    looks = 0

    def __getitem__(self, cell: object) -> int:  # type: ignore[override]
        self.looks += 1
        assert self.looks < EVENTS_MAX, "the replay does not end"
        return super().__getitem__(cell)  # type: ignore[index, return-value]


class Case(NamedTuple):
    jobs: list[PoolJob]
    policy: str
    order: str
    depth: int
    starts: list[int]


RARE = [
    [PoolJob(2, 4, 3, 6), PoolJob(5, 1, 1, 4), PoolJob(3, 6, 4, 7)],
    [
        PoolJob(8, 1, 4, 4),
        PoolJob(1, 3, 6, 6),
        PoolJob(1, 4, 7, 6),
        PoolJob(4, 2, 4, 4),
        PoolJob(0, 6, 5, 5),
        PoolJob(5, 6, 7, 7),
    ],
]
"""A job that comes beside an overrun one; a short job that must leave the extra ones alone."""


def _cases() -> list[Case]:
    rng = random.Random(20)
    cases = [Case(jobs, "easy", "fcfs", 0, pool_schedule(jobs, 6, "easy")) for jobs in RARE]
    for number in range(90):
        policy = ("easy", "conservative", "easy-sjbf", "conservative-replan", "easy")[number % 5]
        overrun = 2 * (number % 5 == 4)
        jobs = []
        for _ in range(rng.randint(8, 16)):
            estimate = rng.randint(1, 8)
            run = max(1, estimate + overrun - rng.choice((0, 0, rng.randint(0, 8))))
            jobs.append(PoolJob(rng.randint(0, 12), rng.randint(1, PROCESSORS), estimate, run))
        order, depth = "fcfs", 0
        if policy.startswith("conservative"):
            replan = policy == "conservative-replan"
            starts = conservative_schedule(jobs, PROCESSORS, replan=replan)
        else:
            if overrun and number % 2:
                order, depth = rng.choice(("fcfs", "wfp3", "unicep", "sjf")), rng.randint(1, 4)
            starts = pool_schedule(jobs, PROCESSORS, policy, order, depth)
        cases.append(Case(jobs, policy, order, depth, starts))
    return cases


CASES = _cases()


def differs(pool: ModuleType, case: Case) -> bool:
    columns = np.array([(j.submit, j.processors, j.estimate, j.runtime) for j in case.jobs]).T
    try:
        found = pool.replay(
            *columns,
            processors=PROCESSORS,
            policy=pool.PoolPolicy(case.policy),
            order=case.order,
            depth=case.depth,
            control=Bounded([0, 0]),
        )
    except (AssertionError, IndexError):
        return True
    return bool(found.tolist() != case.starts)


def test_without_a_mutation_every_case_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = load(monkeypatch, None)
    assert not any(differs(pool, case) for case in CASES)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = load(monkeypatch, MUTANTS[name])
    assert any(differs(pool, case) for case in CASES), "no case tells it from the kernel"
