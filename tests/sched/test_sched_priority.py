"""Multifactor priorities: equal to the book term by term, and explained to the last unit."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle_priority as book
from sched_core import priority as p
from sched_core.columns import Ints
from sched_core.fairshare import ONE
from sched_core.tables import Request, Tables

NOW = 10_000_000


class Situation:
    """Random tables of factors, weights and jobs."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.rng = rng
        self.tables = Tables()
        for i in range(rng.randint(1, 4)):
            gres = (("gpu", "a", rng.randint(1, 4)),) if rng.random() < 0.6 else ()
            cpu, memory = rng.choice([4000, 64000]), rng.choice([100, 512_000])
            self.tables.nodes.set(f"n{i}", cpu=cpu, memory=memory, gres=gres, partitions=("p",))
        for i in range(3):
            request = Request(
                partitions=("p",),
                cpu_per_task=rng.choice([500, 1000]) + i,
                memory_per_node=rng.choice([0, 10]),
                gres_per_task=(("gpu", "", 1),) if rng.random() < 0.3 else (),
                ntasks=rng.choice([0, 1, 8]),
                min_nodes=rng.choice([0, 1, 3]),
            )
            self.tables.shapes.intern(request)
        top = rng.choice([3, 1000, p.WEIGHT_MAX])
        dims = rng.sample(["cpu", "memory", "gres/gpu", "gres/none"], rng.randint(0, 3))
        self.weights = p.Weights(
            *(rng.randint(0, top) for _ in range(6)),
            tres=tuple((name, rng.randint(0, top)) for name in dims),
            max_age=rng.choice([1, 60, 7 * 86400, p.WEIGHT_MAX]),
            small_first=rng.random() < 0.5,
        )
        nodes, shapes = self.tables.nodes, self.tables.shapes
        self.factors = p.Factors(
            association=self.some(4),
            fairshare=self.some(4),
            partition=self.some(2),
            qos=self.some(3),
            size=p.size_factors(nodes, shapes, small_first=self.weights.small_first),
            tres=p.tres_factors(nodes, shapes, tuple(dims)),
        )
        self.jobs = self.columns(rng.randint(1, 9))

    def some(self, count: int) -> Ints:
        return np.array([self.rng.choice([0, 1, ONE, ONE // 3]) for _ in range(count)], np.int64)

    def columns(self, count: int) -> Ints:
        rng = self.rng
        out = np.empty((p.JOB_COLUMNS, count), np.int64)
        for j in range(count):
            out[:, j] = (
                *(rng.randint(-1, rows - 1) for rows in (3, 4, 2, 3)),
                rng.choice([-1, NOW + 5, NOW, NOW - 1, NOW - 61, NOW - 9_000_000]),
                rng.choice([0, 0, 100, -100, 2**31, -(2**31)]),
                rng.choice([0, 0, 5, -5, 2**31]),
                rng.choice([-1, -1, -1, 0, 77]),
            )
        return out

    def exact_size(self, shape: int) -> Fraction:
        request, nodes = self.tables.shapes.request(shape), self.tables.nodes
        count, each = request.nodes_low, request.ntasks
        cpu = request.cpu_per_task * (each or count)
        whole = int(nodes.capacity[: nodes.rows, 0].sum())
        of_nodes = min(Fraction(count, len(nodes.names)), Fraction(1))
        part = (of_nodes + min(Fraction(cpu, whole), Fraction(1))) / 2
        return 1 - part if self.weights.small_first else part

    def expected(self, j: int) -> dict[str, int]:
        shape, owner, part, qos, eligible, nice, site, _ = self.jobs[:, j].tolist()
        w, f = self.weights, self.factors
        waited = min(max(NOW - eligible, 0), w.max_age) if eligible >= 0 else 0
        factors = {"age": Fraction(waited, w.max_age)}

        def fixed(name: str, column: Ints, row: int) -> None:
            factors[name] = Fraction(int(column[row]), ONE) if row >= 0 else Fraction(0)

        fixed("association", f.association, owner)
        fixed("fairshare", f.fairshare, owner)
        fixed("partition", f.partition, part)
        fixed("qos", f.qos, qos)
        fixed("size", f.size, shape)
        weights = {name: getattr(w, name) for name in factors}
        for i, (name, weight) in enumerate(w.tres):
            fixed(name, f.tres[i], shape)
            weights[name] = weight
        return book.priority(weights, factors, site, nice)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_priorities_and_their_terms_equal_the_book(seed: int) -> None:
    s = Situation(seed)
    given_terms = p.terms(s.weights, s.factors)
    before = s.jobs.copy()
    found = p.prioritise(s.jobs, given_terms, NOW)
    assert (s.jobs == before).all()
    chosen = np.array(s.rng.choices(range(s.jobs.shape[1]), k=5), np.int64)
    told = p.explain(s.jobs, given_terms, NOW, chosen)
    for k, j in enumerate(chosen.tolist()):
        expected = s.expected(j)
        for name in ("age", "association", "fairshare", "size", "partition", "qos"):
            assert getattr(told, name)[k] == expected[name], name
        for i, (name, _) in enumerate(s.weights.tres):
            assert told.tres[i, k] == expected[name]
        pinned = int(s.jobs[p.PINNED, j])
        assert found[j] == (pinned if pinned >= 0 else expected["priority"])
        summands = [getattr(told, field) for field in p.Breakdown.__slots__[:6]]
        summands += [told.tres.sum(axis=0), told.site, told.nice, told.adjusted]
        assert sum(int(column[k]) for column in summands) == told.priority[k] == found[j]
        if pinned < 0 and p.PRIORITY_MIN < found[j] < p.PRIORITY_MAX:
            assert told.adjusted[k] == 0


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_sizes_are_parts_of_the_cluster(seed: int) -> None:
    s = Situation(seed)
    for shape in range(3):
        exact = s.exact_size(shape)
        assert abs(Fraction(int(s.factors.size[shape]), ONE) - exact) <= Fraction(3, ONE)


@given(part=st.integers(0, 2**50), whole=st.integers(0, 2**50))
@settings(deadline=None, max_examples=100)
def test_parts_are_exact_within_their_step(part: int, whole: int) -> None:
    found = int(p.parts(np.array([part], np.int64), whole)[0])
    exact = min(Fraction(part, whole), Fraction(1)) if whole else Fraction(0)
    assert 0 <= found <= ONE
    assert abs(Fraction(found, ONE) - exact) <= Fraction(2, ONE)


@given(seed=st.integers(0, 2**32), later=st.integers(0, 10**7))
@settings(deadline=None, max_examples=60)
def test_waiting_never_lowers_and_nice_never_raises_a_priority(seed: int, later: int) -> None:
    s = Situation(seed)
    made = p.terms(s.weights, s.factors)
    first = p.prioritise(s.jobs, made, NOW)
    assert (p.prioritise(s.jobs, made, NOW + later) >= first).all()
    s.jobs[p.NICE] += later
    assert (p.prioritise(s.jobs, made, NOW) <= first).all()


def test_sums_are_cut_off_and_empty_tables_do() -> None:
    none = np.zeros(0, np.int64)
    empty = p.Factors(none, none, none, none, none, np.zeros((0, 0), np.int64))
    jobs = np.full((p.JOB_COLUMNS, 4), -1, np.int64)
    jobs[p.NICE] = [0, 2**40, -(2**40), 0]
    jobs[p.SITE] = [9, 0, 0, 0]
    made = p.terms(p.Weights(age=1000), empty)
    assert p.prioritise(jobs, made, 0).tolist() == [9, 1, p.PRIORITY_MAX, 1]
    told = p.explain(jobs, made, 0, np.arange(4))
    assert told.adjusted.tolist() == [0, 1 + 2**40, p.PRIORITY_MAX - 2**40, 1]
    assert p.prioritise(jobs[:, :0].copy(), made, 0).size == 0


def test_configured_numbers_become_factors_of_their_greatest() -> None:
    assert p.relative(np.array([0, 5, 10])).tolist() == [0, ONE // 2, ONE]
    assert p.relative(np.array([0, 0])).tolist() == [0, 0]
    assert p.relative(np.array([p.WEIGHT_MAX])).tolist() == [ONE]
    assert p.relative(np.zeros(0, np.int64)).size == 0


def test_weights_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="a weight is"):
        p.Weights(qos=-1)
    with pytest.raises(ValueError, match="a weight is"):
        p.Weights(tres=(("cpu", p.WEIGHT_MAX + 1),))
    with pytest.raises(ValueError, match="age that counts"):
        p.Weights(max_age=0)
