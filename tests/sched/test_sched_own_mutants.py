"""The tests of `learned` and of GPU sharing see errors: each of these mutants differs somewhere.

The kernels' sources are changed as text and run as plain Python on small random workloads.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import sched_core
from sched_core.oracle_fragment import Node, PodType, model_bits, place, popular_types
from sched_core.oracle_learned import UserJob, learned_schedule

SOURCES = Path(sched_core.__file__).parent
POOL = ("pool_running", "pool_easy", "pool_profile", "pool_conservative", "pool")
LEARNED = (*POOL, "pool_learned", "learned")
SHARING = ("fragment", "gpushare_scores", "gpushare")
PROCESSORS = 6
EVENTS_MAX = 2000

LEARNED_MUTANTS = {
    "equality at the shadow disallowed": ("job] <= pool.counters[SHADOW]", "job] < pool.counters[SHADOW]"),
    "extra processors not reduced": ("counters[EXTRA] -= pool.jobs[PROCS, job]", "counters[EXTRA] -= 0"),
    "extra processors reduced by every job": ("if now + pool.jobs[ESTIMATE, job] > counters[SHADOW]:", "if True:"),
    "backfill beyond what is free": ("size > pool.counters[FREE]:", "size > pool.counters[FREE] + 1:"),
    "longest prediction first": ("if expected < least:", "if expected > least or best < 0:"),
    "limit instead of prediction": ("return int(max(1, min(limit, expected)))", "return int(limit)"),
    "prediction beyond the limit": ("min(limit, expected)", "expected"),
    "average of all alike": ("(table[LEARNT, row] + value) // 2", "(3 * table[LEARNT, row] + value) // 4"),
    "last runtime only": ("value = (table[LEARNT, row] + value) // 2", "value = int(value)"),
    "the future is known": ("expected = limit\n", "expected = pool.jobs[RUN, job]\n"),
    "running jobs teach nothing": ("LEARNT, kind], elapsed)", "LEARNT, kind], 0)"),
    "learnt in the order of the heap": ("ended[at - 1] > job", "False"),
    "threshold off by one": ("now) >= threshold", "now) > threshold"),
    "head changes while it waits": ("return\n        start_at", "pass\n        start_at"),
    "head stays after its start": ("            promise[HEAD] = -1\n", ""),
    "no grace": ("GRACE = 60", "GRACE = 1"),
    "kept promises counted as broken": ("if late > 0:", "if late >= 0:"),
    "promise moves later": ("if promise[PROMISED] == NEVER:", "if True:"),
}  # fmt: skip
SHARING_MUTANTS = {
    "popular pods need no CPU": ("fragment", "or cpu < popular[CPU, k]\n", "\n"),
    "pods without devices lose nothing": ("fragment", "popular[COUNT, k] == 0\n            or ", ""),
    "models forgotten in fragmentation": ("fragment", "or not (popular[MODELS, k] >> model) & 1\n", "\n"),
    "a device just large enough is lost": ("fragment", "free[d] >= popular[SHARE, k]", "free[d] > popular[SHARE, k]"),
    "CPU of the pod forgotten": ("fragment", "left = nodes[CPU, node] - types[CPU, pod]", "left = nodes[CPU, node]"),
    "fragmentation of an older state": ("fragment", "nodes[UNUSABLE_AT, node] != nodes[VERSION, node] + 1", "nodes[UNUSABLE_AT, node] == 0"),
    "emptiest device taken": ("fragment", "after[d] < gpus[node, best]", "after[d] > gpus[node, best]"),
    "finer grain": ("gpushare_scores", "GRAIN = 40", "GRAIN = 1"),
    "best fit among equals reversed": ("gpushare_scores", "* RANK - remainder", "* RANK + remainder"),
    "last of equal devices": ("gpushare_scores", "score > best:", "score >= best:"),
    "sigmoid of thousandths": ("gpushare", "WHOLE * pods * math.log", "pods * math.log"),
    "GPU weighs as CPU": ("gpushare_scores", "+ PER_GPU * gpu)", "+ gpu)"),
    "packing sees no partly used device": ("gpushare_scores", "<= gpus[node, d] < fullest", "< gpus[node, d] < fullest"),
    "kinds not told apart": ("gpushare_scores", "return int(1 << types[COUNT, pod])", "return 1"),
    "memory oversubscribed": ("gpushare", " or nodes[MEMORY, node] < types[MEMORY, pod]", ""),
    "model ignored": ("gpushare", "if not (types[MODELS, pod] >> nodes[MODEL, node]) & 1:", "if False:"),
    "stale scores": ("gpushare", "nodes[VERSION, node] += 1", "nodes[VERSION, node] += 0"),
    "last of equal nodes": ("gpushare", "scores[SCORE, pod, node] > scores[SCORE, pod, best]", "scores[SCORE, pod, node] >= scores[SCORE, pod, best]"),
}  # fmt: skip


def _plain(function: object) -> object:
    return function


def load(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], mutant: tuple[str, str, str] | None
) -> ModuleType:
    """The last of some modules, all as plain Python, one of them changed."""
    jit = ModuleType("sched_core.jit")
    vars(jit).update(kernel=_plain, entry=_plain, inlined=_plain, compile_kernels=lambda: None)
    loaded = {"jit": jit}
    for name in names:
        text = (SOURCES / f"{name}.py").read_text()
        if mutant is not None and mutant[0] == name:
            assert mutant[1] in text, f"{mutant[1]!r} is no longer in {name}"
            text = text.replace(mutant[1], mutant[2])
        loaded[name] = ModuleType(f"sched_core.{name}")
        monkeypatch.setitem(sys.modules, f"sched_core.{name}", loaded[name])
        for other, module in loaded.items():
            monkeypatch.setitem(sys.modules, f"sched_core.{other}", module)
            monkeypatch.setattr(sched_core, other, module, raising=False)
        exec(compile(text, f"{name}.py", "exec"), vars(loaded[name]))
    monkeypatch.undo()
    return loaded[names[-1]]


class Bounded(list[int]):
    """Control cells that end a replay which would never end by itself."""

    looks = 0

    def __getitem__(self, cell: object) -> int:  # type: ignore[override]
        self.looks += 1
        assert self.looks < EVENTS_MAX, "the replay does not end"
        return super().__getitem__(cell)  # type: ignore[index, return-value]


def _learned_cases() -> list[tuple[list[UserJob], int, tuple[list[int], int, int]]]:
    rng = random.Random(4)
    cases = []
    for number in range(320):
        jobs = []
        for _ in range(rng.randint(8, 18)):
            if number % 2:  # few kinds and round times: alike ones wait, run and end together
                limit, size, user = rng.choice((60, 200)), rng.choice((1, 2, 6)), 1
                submit, run = 30 * rng.randint(0, 10), 10 * rng.randint(1, limit // 10)
            else:
                limit, size, user = rng.choice((5, 60, 900)), rng.randint(1, 6), rng.randint(1, 2)
                submit, run = rng.choice((0, 5, 60, rng.randint(0, 900))), rng.randint(1, limit)
            jobs.append(UserJob(submit, size, limit, run + 300 * (rng.random() < 0.1), user))
        if (
            number % 8 == 7
        ):  # six of a kind end at 100, in whatever order; a seventh waits with another
            jobs = [UserJob(s, 1, 200, 100 - s, 1) for s in rng.sample(range(90), 6)]
            jobs += [UserJob(92, 1, 200, 10, 1), UserJob(93, 6, rng.randint(9, 90), 9, 2)]
        jobs.sort(key=lambda job: job.submit)
        threshold = (0, 500, 1000, 9000)[number // 4 % 4]
        starts, promises = learned_schedule(jobs, PROCESSORS, threshold)
        broken = sum(starts[i] > when for i, when in promises.items())
        cases.append((jobs, threshold, (starts, len(promises), broken)))
    return cases


CASES = _learned_cases()


def schedule_differs(learned: ModuleType) -> bool:
    for jobs, threshold, expected in CASES:
        rows = [(j.submit, j.processors, j.estimate, j.runtime, j.user) for j in jobs]
        try:
            found = learned.replay(
                *np.array(rows, np.int64).T,
                processors=PROCESSORS,
                threshold=threshold,
                control=Bounded([0, 0]),
            )
        except (AssertionError, IndexError):
            return True
        if (found.start.tolist(), found.promises, found.broken) != expected:
            return True
    return False


def test_without_a_mutation_every_schedule_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not schedule_differs(load(monkeypatch, LEARNED, None))


@pytest.mark.parametrize("name", LEARNED_MUTANTS)
def test_a_mutant_of_learned_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = ("pool_learned", *LEARNED_MUTANTS[name])
    assert schedule_differs(load(monkeypatch, LEARNED, mutant))


def _types(rng: random.Random) -> list[PodType]:
    types = []
    for _ in range(5):
        count = rng.choice((0, 1, 1, 1, 2))
        share = 0 if count == 0 else 1000 if count > 1 else rng.choice((100, 300, 500, 700, 1000))
        models = rng.choice((frozenset[int](), frozenset[int](), frozenset({1})))
        types.append(PodType(rng.randint(0, 8) * 1000, rng.randint(0, 3), count, share, models))
    return list(dict.fromkeys(types))


def placement_differs(gpushare: ModuleType) -> bool:
    rng = random.Random(9)
    for number in range(140):
        policy = list(gpushare.SharePolicy)[(1, 2, 3, 4, 5, 5, 6)[number % 7]]
        cluster = [
            (rng.randint(4, 24) * 1000, rng.randint(4, 20), rng.randint(1, 3), rng.randint(0, 1))
            for _ in range(4)
        ]
        types = _types(rng)
        weights = [rng.randint(1, 9) for _ in types]
        sequence = [rng.randrange(len(types)) for _ in range(16)]
        rows = [(t.cpu, t.memory, t.count, t.share, model_bits(t)) for t in types]
        devices = gpushare.make_devices(cluster)
        pods = gpushare.make_pods(rows, weights)
        try:
            found = gpushare.place_all(devices, pods, np.array(sequence), policy)[0].tolist()
        except (IndexError, ValueError):
            return True
        nodes = [Node(cpu, memory, [1000] * gpus, model) for cpu, memory, gpus, model in cluster]
        popular = popular_types(dict(zip(types, weights, strict=True)), 95)
        state = pow(gpushare.MULTIPLIER, 1000, gpushare.MODULUS)
        wanted = place(nodes, [types[i] for i in sequence], policy.name.lower(), popular, state)
        if found != [[n for n, _ in wanted], [sum(1 << d for d in ds) for _, ds in wanted]]:
            return True
    return False


def test_without_a_mutation_every_placement_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not placement_differs(load(monkeypatch, SHARING, None))


@pytest.mark.parametrize("name", SHARING_MUTANTS)
def test_a_mutant_of_sharing_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert placement_differs(load(monkeypatch, SHARING, SHARING_MUTANTS[name]))
