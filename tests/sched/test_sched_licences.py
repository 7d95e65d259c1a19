"""Licences: the table, and what passes do with those that are free, held and promised."""

from __future__ import annotations

from typing import Any

import pytest

from sched_core.codes import VerdictCode
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_conservative import Promises
from sched_core.tables import Request, Tables

NOW = 100
STARTED, LICENSES, RESOURCES = VerdictCode.STARTED, VerdictCode.LICENSES, VerdictCode.RESOURCES
PRIORITY = VerdictCode.PRIORITY
BLOCKING = [PolicyKind.FIFO, PolicyKind.EASY]


def cluster(nodes: int = 4, **totals: int) -> Tables:
    tables = Tables()
    for i in range(nodes):
        tables.nodes.set(f"n{i}", cpu=4000, memory=100, partitions=("p", "q"))
    for name, total in totals.items():
        tables.licences.set(name, total)
    return tables


def submit(tables: Tables, job_id: int, duration: int = 10, **request: Any) -> None:
    count = request.pop("count", 1)
    whole = Request(**({"partitions": ("p",), "cpu_per_task": 1000} | request))
    shape = tables.shapes.intern(whole)
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id, count=count)


def make(tables: Tables, kind: PolicyKind, promises: Promises | None = None) -> Plan:
    t = tables
    return plan(t.nodes, t.shapes, t.jobs, t.running, Policy(kind), NOW, promises=promises)


def run(tables: Tables, kind: PolicyKind = PolicyKind.EASY) -> dict[int, tuple[Any, ...]]:
    made = make(tables, kind)
    columns = (made.job, made.code, made.planned, made.placed)
    return {
        job: (VerdictCode(code), planned, placed)
        for job, code, planned, placed in zip(*(c.tolist() for c in columns), strict=True)
    }


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_a_job_waits_until_enough_licences_are_back(kind: PolicyKind) -> None:
    tables = cluster(matlab=3, star=1)
    tables.running.add(1, NOW + 30, [0], [[1000]], (("matlab", 2), ("star", 1)))
    submit(tables, 2, licences=(("star", 1), ("matlab", 2)))
    assert run(tables, kind) == {2: (LICENSES, NOW + 30, 0)}
    assert make(tables, kind).short.tolist() == [0]
    tables.running.set_end(1, NOW + 40)
    assert run(tables, kind) == {2: (LICENSES, NOW + 40, 0)}
    tables.running.remove(1)
    assert run(tables, kind) == {2: (STARTED, NOW, 1)}


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_who_wants_more_than_there_are_waits_for_ever_and_blocks_nobody(kind: PolicyKind) -> None:
    tables = cluster(matlab=3)
    tables.licences.set("matlab", 3, elsewhere=2)
    submit(tables, 1, licences=(("matlab", 2),))
    submit(tables, 2, licences=(("unheard", 1),))
    submit(tables, 3, licences=(("matlab", 1),))
    submit(tables, 4)
    verdicts = run(tables, kind)
    assert [verdicts[job][0] for job in (1, 2, 3, 4)] == [LICENSES, LICENSES, STARTED, STARTED]
    assert verdicts[1][1] == verdicts[2][1] == -1
    tables.licences.set("matlab", 3, elsewhere=1)
    assert run(tables, kind)[1] == (STARTED, NOW, 1)


def test_easy_promises_licences_from_the_shadow_time_on() -> None:
    tables = cluster(matlab=4)
    tables.running.add(1, NOW + 30, [0], [[1000]], (("matlab", 2),))
    submit(tables, 2, licences=(("matlab", 3),))
    submit(tables, 3, duration=30, licences=(("matlab", 1),))
    submit(tables, 4, duration=31, licences=(("matlab", 1),))
    submit(tables, 5, duration=31, licences=(("matlab", 1),))
    submit(tables, 6, duration=900)
    assert run(tables) == {
        2: (LICENSES, NOW + 30, 0),
        3: (STARTED, NOW, 1),
        4: (STARTED, NOW, 1),
        5: (LICENSES, NOW + 31, 0),
        6: (STARTED, NOW, 1),
    }
    tables.jobs.remove(3)
    tables.jobs.remove(6)
    verdicts = run(tables)  # one is free now, and promised
    assert verdicts[4] == (STARTED, NOW, 1)
    assert verdicts[5][0] == PRIORITY


def test_a_head_that_waits_for_licences_holds_only_what_it_was_promised() -> None:
    tables = cluster(nodes=2, matlab=1)
    tables.running.add(1, NOW + 30, [0], [[4000]], (("matlab", 1),))
    submit(tables, 2, cpu_per_task=4000, licences=(("matlab", 1),))
    submit(tables, 3, duration=900, cpu_per_task=4000)
    made = make(tables, PolicyKind.EASY)
    assert made.start_job.tolist() == [3]
    assert made.head_start.tolist() == [NOW + 30]
    assert made.head_node.tolist() == [0]  # not the other one, which is free until then


def test_heads_of_two_partitions_share_what_is_there_one_after_the_other() -> None:
    tables = cluster(matlab=2)
    tables.running.add(1, NOW + 30, [0], [[1000]], (("matlab", 2),))
    submit(tables, 2, duration=20, licences=(("matlab", 2),))
    submit(tables, 3, duration=20, partitions=("q",), licences=(("matlab", 1),))
    made = make(tables, PolicyKind.EASY)
    assert made.head_start.tolist() == [NOW + 30, NOW + 50]


@pytest.mark.parametrize("kind", BLOCKING)
def test_who_waits_for_licences_blocks_others_under_fifo_alone(kind: PolicyKind) -> None:
    tables = cluster(matlab=1)
    tables.running.add(1, NOW + 30, [0], [[1000]], (("matlab", 1),))
    submit(tables, 2, licences=(("matlab", 1),))
    submit(tables, 3)
    assert run(tables, kind)[3][0] == (STARTED if kind == PolicyKind.EASY else PRIORITY)


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_an_array_starts_as_many_tasks_as_there_are_licences(kind: PolicyKind) -> None:
    tables = cluster(matlab=5)
    submit(tables, 1, count=4, licences=(("matlab", 2),))
    assert run(tables, kind) == {1: (LICENSES, NOW + 10, 2)}


def test_conservative_promises_are_kept_compressed_and_dropped_when_totals_fall() -> None:
    tables = cluster(matlab=3)
    tables.running.add(1, NOW + 30, [0], [[1000]], (("matlab", 3),))
    for job in (2, 3, 4):
        submit(tables, job, licences=(("matlab", 2),))
    first = make(tables, PolicyKind.CONSERVATIVE)
    assert first.planned.tolist() == [NOW + 30, NOW + 40, NOW + 50]
    tables.running.set_end(1, NOW + 20)
    again = make(tables, PolicyKind.CONSERVATIVE, Promises.of(first))
    assert again.planned.tolist() == [NOW + 20, NOW + 30, NOW + 40]
    tables.licences.set("matlab", 1)
    never = make(tables, PolicyKind.CONSERVATIVE, Promises.of(again))
    assert never.head_job.tolist() == []
    assert never.moved.tolist() == [-1] * 3


def test_the_table_counts_what_is_held_and_keeps_what_totals_say() -> None:
    tables, other = cluster(matlab=3), Tables()
    tables.running.add(1, NOW, [0], [[1000]], (("matlab", 2), ("star", 9)))
    assert tables.licences.left().tolist() == [1, -9]
    tables.licences.set("matlab", 1)
    assert tables.licences.left().tolist() == [-1, -9]
    for i in range(40):
        other.licences.set(f"l{i}", 0)
    other.licences.set("matlab", 1)
    assert not tables.licences.equals(other.licences)
    other.licences.hold(1, NOW, (("star", 9), ("matlab", 2)))
    assert tables.licences.equals(other.licences)
    for i in range(2, 40):
        other.licences.hold(i, NOW, (("l7", 1),))
        if i % 2:
            other.licences.give_back(i)
    assert other.licences.left()[7] == -19
    tables.running.remove(1)
    assert tables.licences.left().tolist() == [1, 0]
    with pytest.raises(ValueError, match="fewer than 0"):
        tables.licences.set("matlab", 2, elsewhere=-1)


@pytest.mark.parametrize("wrong", [(("a", 0),), (("", 1),), (("a", 1), ("a", 2))])
def test_a_request_names_each_licence_once_with_a_count(wrong: Any) -> None:
    with pytest.raises(ValueError, match="licences must be distinct"):
        Request(partitions=("p",), cpu_per_task=1, licences=wrong)


def test_what_was_found_while_licences_lacked_is_not_kept_when_some_are_given_back() -> None:
    """B2 may start at 20 once A has moved; it was no earlier than 30 when B1 was looked at."""
    tables = cluster(nodes=5, matlab=3)
    tables.running.add(90, NOW + 100, [4], [[1000]], (("matlab", 1),))
    tables.running.add(91, NOW + 20, [4], [[1000]], (("matlab", 2),))
    tables.running.add(92, NOW + 200, [1], [[1000]])
    wanted = {"A": (1, 10, 2), "C": (2, 10, 2), "B1": (3, 15, 1), "B2": (4, 15, 1)}
    for job, duration, count in wanted.values():
        submit(tables, job, duration, cpu_per_task=4000, licences=(("matlab", count),))
    first = make(tables, PolicyKind.CONSERVATIVE)
    assert first.head_start.tolist() == [NOW + 20, NOW + 30, NOW + 40, NOW + 40]
    assert first.head_node.tolist() == [0, 0, 0, 2]
    tables.jobs.remove(2)
    tables.running.remove(92)
    tables.running.set_end(91, NOW + 10)
    tables.jobs.update(3, priority=1)
    made = make(tables, PolicyKind.CONSERVATIVE, Promises.of(first))
    assert made.head_job.tolist() == [3, 1, 4]
    assert made.head_start.tolist() == [NOW + 30, NOW + 10, NOW + 20]
    assert made.head_node.tolist()[-1] == 1


def test_what_is_left_beside_a_promise_that_waits_for_licences_is_counted_once() -> None:
    """The CPU is released before the licence is; then 3 CPUs are promised and one is left."""
    tables = cluster(nodes=1, matlab=1)
    tables.running.add(90, NOW + 20, [0], [[1000]])
    tables.running.add(91, NOW + 30, [0], [[1000]], (("matlab", 1),))
    submit(tables, 1, cpu_per_task=3000, licences=(("matlab", 1),))
    submit(tables, 2, duration=900)
    submit(tables, 3, duration=900)
    made = make(tables, PolicyKind.EASY)
    assert made.head_start.tolist() == [NOW + 30]
    assert made.start_job.tolist() == [2]
