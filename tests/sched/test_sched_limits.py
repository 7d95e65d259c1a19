"""Limits of users, accounts and QoS: rows, chains, and what a pass says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sched_core.codes import VerdictCode
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import Request, Tables


def cluster() -> Tables:
    tables = Tables()
    for name in ("n0", "n1"):
        tables.nodes.set(name, cpu=4000, memory=100, partitions=("p",), gres=(("gpu", "a", 2),))
    return tables


def submit(tables: Tables, job_id: int, limit: str, **request: Any) -> None:
    count = request.pop("count", 1)
    whole = Request(**({"partitions": ("p",), "cpu_per_task": 1000} | request))
    row = tables.limits.names.find(limit)
    shape = tables.shapes.intern(whole)
    tables.jobs.add(job_id, shape, duration=10, submit=job_id, count=count, limit=row)


def run(tables: Tables, kind: PolicyKind = PolicyKind.EASY) -> dict[int, tuple[Any, ...]]:
    made: Plan = plan(tables.nodes, tables.shapes, tables.jobs, tables.running, Policy(kind), 100)
    columns = (made.job, made.code, made.short, made.placed)
    return {
        job: (VerdictCode(code), short, placed)
        for job, code, short, placed in zip(*(c.tolist() for c in columns), strict=True)
    }


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_who_is_over_a_limit_waits_and_blocks_nobody(kind: PolicyKind) -> None:
    tables = cluster()
    tables.limits.set("account", cpu=5000)
    tables.limits.set("user", parent="account", jobs=2)
    tables.limits.set_used("account", 1, [1000])
    submit(tables, 1, "user", cpu_per_task=2000)
    submit(tables, 2, "account", cpu_per_task=3000)
    submit(tables, 3, "account", cpu_per_task=2000)
    submit(tables, 4, "user", gres_per_node=(("gpu", "", 2),))
    submit(tables, 5, "", count=3)
    assert run(tables, kind) == {
        1: (VerdictCode.STARTED, -1, 1),
        2: (VerdictCode.LIMIT, 0, 0),
        3: (VerdictCode.STARTED, -1, 1),
        4: (VerdictCode.LIMIT, 0, 0),
        5: (VerdictCode.STARTED, -1, 3),
    }


def test_the_limit_is_told_before_what_no_node_could_host() -> None:
    tables = cluster()
    tables.limits.set("user", jobs=0, gres=(("gpu", "a", 1),))
    submit(tables, 1, "user", cpu_per_task=9000)
    assert run(tables) == {1: (VerdictCode.LIMIT, -1, 0)}
    tables.limits.set("user", gres=(("gpu", "a", 1),))
    submit(tables, 2, "user", gres_per_node=(("gpu", "a", 2),))
    submit(tables, 3, "user", gres_per_node=(("gpu", "", 2),))
    verdicts = run(tables)
    assert verdicts[1][0] == VerdictCode.NEVER
    assert verdicts[2][:2] == (VerdictCode.LIMIT, 3)
    assert verdicts[3][0] == VerdictCode.STARTED


def test_an_array_starts_as_many_tasks_as_its_limit_lets() -> None:
    tables = cluster()
    tables.limits.set("user", jobs=3)
    submit(tables, 1, "user", count=5)
    assert run(tables) == {1: (VerdictCode.LIMIT, -1, 3)}


def test_more_in_use_than_may_be_stops_only_those_who_ask_for_it() -> None:
    tables = cluster()
    tables.limits.set("user", memory=50)
    tables.limits.set_used("user", 9, [0, 80])
    submit(tables, 1, "user", memory_per_task=1)
    submit(tables, 2, "user")
    assert run(tables) == {
        1: (VerdictCode.LIMIT, 1, 0),
        2: (VerdictCode.STARTED, -1, 1),
    }


def test_rows_keep_their_use_take_any_width_and_refuse_a_circle() -> None:
    tables = Tables()
    tables.limits.set_many([f"u{i}" for i in range(40)], np.full((40, 2), 7, np.int64))
    tables.limits.set_used("u3", 2, [5])
    tables.limits.set("u3", parent="u4", jobs=1, gres=(("fpga", "", 2), ("gpu", "a", 3)))
    assert tables.limits.left()[3, 0] == -1
    with pytest.raises(ValueError, match="'u4' would be above themselves"):
        tables.limits.set("u4", parent="u3")
    other = Tables()
    other.limits.set("u3", parent="u4", jobs=1, gres=(("gpu", "a", 3), ("fpga", "", 2)))
    assert not tables.limits.equals(other.limits)
    for i in range(40):
        if i != 3:
            other.limits.set(f"u{i}", jobs=7, cpu=7)
    other.limits.set_used("u3", 2, [5])
    assert tables.equals(other)
    tables.limits.set("u5")
    assert not tables.equals(other)
