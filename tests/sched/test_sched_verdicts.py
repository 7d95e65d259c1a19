"""What a pass says and does in situations a person would ask about."""

from __future__ import annotations

from typing import Any

import pytest

from sched_core.codes import VerdictCode
from sched_core.feasible import feasible
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.tables import DURATION_MAX, Request, Tables

EASY, FIFO = Policy(PolicyKind.EASY), Policy(PolicyKind.FIFO)


def cluster(nodes: int = 2, **attributes: Any) -> Tables:
    tables = Tables()
    given: dict[str, Any] = {"cpu": 4000, "memory": 100, "partitions": ("p",)} | attributes
    for i in range(nodes):
        tables.nodes.set(f"n{i}", **given)
    return tables


def submit(tables: Tables, job_id: int, duration: int = 10, **request: Any) -> None:
    rest = {key: request.pop(key) for key in ("count", "gate", "begin") if key in request}
    whole = Request(**({"partitions": ("p",), "cpu_per_task": 1000} | request))
    shape = tables.shapes.intern(whole)
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id, **rest)


def run(tables: Tables, policy: Policy = EASY, now: int = 100) -> Plan:
    return plan(tables.nodes, tables.shapes, tables.jobs, tables.running, policy, now)


def codes(made: Plan) -> dict[int, VerdictCode]:
    return {
        job: VerdictCode(code)
        for job, code in zip(made.job.tolist(), made.code.tolist(), strict=True)
    }


def value(made: Plan, column: str, job_id: int) -> int:
    return int(getattr(made, column)[made.job.tolist().index(job_id)])


def test_an_empty_cluster_and_an_empty_queue_make_an_empty_plan() -> None:
    assert run(Tables()).starts == 0
    tables = Tables()
    submit(tables, 1)
    assert codes(run(tables)) == {1: VerdictCode.NEVER}


def test_an_array_record_starts_as_many_tasks_as_fit() -> None:
    tables = cluster(nodes=2)
    submit(tables, 1, count=11)
    made = run(tables)
    assert made.starts == value(made, "placed", 1) == 8
    assert codes(made) == {1: VerdictCode.RESOURCES}
    assert made.head_job.tolist() == [1]
    assert value(made, "planned", 1) == 110


def test_gates_pass_through_and_block_nobody() -> None:
    tables = cluster(nodes=1)
    submit(tables, 1, gate=VerdictCode.HELD_USER)
    submit(tables, 2, begin=200)
    submit(tables, 3, count=0)
    submit(tables, 4)
    made = run(tables, FIFO)
    assert codes(made) == {
        1: VerdictCode.HELD_USER,
        2: VerdictCode.BEGIN_TIME,
        3: VerdictCode.ARRAY_LIMIT,
        4: VerdictCode.STARTED,
    }
    assert value(made, "planned", 2) == 200
    assert value(made, "ahead", 4) == 0


def test_what_no_node_could_host_is_never_and_what_only_down_nodes_could_is_not_available() -> None:
    tables = cluster(nodes=2)
    tables.nodes.set("big", cpu=8000, memory=100, partitions=("p",), usable=False)
    submit(tables, 1, cpu_per_task=9000)
    submit(tables, 2, cpu_per_task=8000)
    submit(tables, 3, min_nodes=4)
    submit(tables, 4)
    made = run(tables, FIFO)
    assert codes(made) == {
        1: VerdictCode.NEVER,
        2: VerdictCode.NODE_NOT_AVAIL,
        3: VerdictCode.NEVER,
        4: VerdictCode.STARTED,
    }
    assert (value(made, "matching", 2), value(made, "usable", 2)) == (1, 0)
    assert value(made, "short", 1) == 0


def test_the_short_dimension_is_named_with_the_numbers_behind_it() -> None:
    tables = cluster(nodes=3, gres=(("gpu", "a", 1),))
    submit(tables, 1, gres_per_node=(("gpu", "a", 1),), min_nodes=2)
    submit(tables, 2, gres_per_node=(("gpu", "", 1),), min_nodes=2)
    made = run(tables)
    assert codes(made) == {1: VerdictCode.STARTED, 2: VerdictCode.RESOURCES}
    assert tables.dims.name(value(made, "short", 2)) == "gres/gpu"
    numbers = [value(made, key, 2) for key in ("matching", "usable", "fitting", "ahead")]
    assert numbers == [3, 3, 1, 0]


@pytest.mark.parametrize("policy", [EASY, FIFO], ids=["easy", "fifo"])
def test_the_first_that_waits_says_resources_and_the_rest_of_its_partition_priority(
    policy: Policy,
) -> None:
    tables = cluster(nodes=2)
    tables.nodes.set("q0", cpu=4000, memory=1, partitions=("q",))
    for row in range(3):
        tables.running.add(90 + row, 150, [row], [[4000, 0]])
    submit(tables, 1, gate=VerdictCode.HELD_USER)
    submit(tables, 2, cpu_per_task=9000)
    submit(tables, 3, cpu_per_task=3000, min_nodes=2)
    submit(tables, 4)
    submit(tables, 5, partitions=("q",))
    submit(tables, 6, cpu_per_task=2000)
    made = run(tables, policy)
    assert codes(made) == {
        1: VerdictCode.HELD_USER,
        2: VerdictCode.NEVER,
        3: VerdictCode.RESOURCES,
        4: VerdictCode.PRIORITY,
        5: VerdictCode.RESOURCES,
        6: VerdictCode.PRIORITY,
    }
    for job_id, nodes in ((3, 2), (4, 2), (5, 1), (6, 2)):
        assert tables.dims.name(value(made, "short", job_id)) == "cpu"
        numbers = [value(made, key, job_id) for key in ("matching", "usable", "fitting")]
        assert numbers == [nodes, nodes, 0]
    assert value(made, "ahead", 6) == 3


def test_one_that_would_fit_on_what_is_promised_elsewhere_waits_for_its_turn() -> None:
    tables = cluster(nodes=1, partitions=("p", "q"))
    tables.running.add(90, 150, [0], [[3000, 0]])
    submit(tables, 1, cpu_per_task=4000)
    submit(tables, 2, duration=99, partitions=("q",))
    made = run(tables)
    assert codes(made) == {1: VerdictCode.RESOURCES, 2: VerdictCode.PRIORITY}
    assert value(made, "short", 2) == -1


def test_fifo_blocks_the_partition_and_every_node_of_it_but_no_other() -> None:
    tables = cluster(nodes=1, partitions=("p", "overlap"))
    tables.nodes.set("own", cpu=4000, memory=1, partitions=("overlap",))
    submit(tables, 1)
    submit(tables, 2, cpu_per_task=4000)
    submit(tables, 3)
    submit(tables, 4, partitions=("overlap",), cpu_per_task=3000, excluded=("own",))
    submit(tables, 5, partitions=("overlap",), cpu_per_task=3000)
    made = run(tables, FIFO)
    assert codes(made) == {
        1: VerdictCode.STARTED,
        2: VerdictCode.RESOURCES,
        3: VerdictCode.PRIORITY,
        4: VerdictCode.RESOURCES,
        5: VerdictCode.PRIORITY,
    }
    assert value(made, "planned", 3) == value(made, "planned", 2) == 110


def test_easy_backfills_up_to_the_shadow_time_inclusive() -> None:
    tables = cluster(nodes=1)
    tables.running.add(90, 150, [0], [[3000, 0]])
    submit(tables, 1, cpu_per_task=4000)
    submit(tables, 2, duration=51)
    submit(tables, 3, duration=50)
    made = run(tables)
    assert codes(made) == {
        1: VerdictCode.RESOURCES,
        2: VerdictCode.PRIORITY,
        3: VerdictCode.STARTED,
    }
    assert made.head_start.tolist() == [150]
    assert value(made, "planned", 2) == 150


def test_a_job_may_run_beyond_the_shadow_time_on_what_the_head_leaves() -> None:
    tables = cluster(nodes=1)
    tables.running.add(90, 150, [0], [[3000, 80]])
    submit(tables, 1, cpu_per_task=3000, memory_per_task=90)
    submit(tables, 2, duration=99, memory_per_task=11)
    submit(tables, 3, duration=99, memory_per_task=10)
    assert codes(run(tables)) == {
        1: VerdictCode.RESOURCES,
        2: VerdictCode.PRIORITY,
        3: VerdictCode.STARTED,
    }


def test_a_job_past_its_estimate_releases_after_now_never_at_it() -> None:
    tables = cluster(nodes=1)
    tables.running.add(90, 50, [0], [[4000, 0]])
    submit(tables, 1)
    assert value(run(tables, now=100), "planned", 1) == 101


def test_a_start_that_hangs_on_a_job_without_limit_is_unknown() -> None:
    tables = cluster(nodes=1)
    submit(tables, 1, cpu_per_task=4000, duration=DURATION_MAX)
    submit(tables, 2)
    made = run(tables)
    assert codes(made) == {1: VerdictCode.STARTED, 2: VerdictCode.RESOURCES}
    assert value(made, "planned", 2) == -1
    assert made.head_start.tolist() == [-1]


def test_exclusive_takes_a_whole_free_node_with_everything_on_it() -> None:
    tables = cluster(nodes=2, gres=(("gpu", "a", 2),))
    tables.running.add(90, 150, [0], [[1000, 0]])
    submit(tables, 1, exclusive=True)
    submit(tables, 2, exclusive=True)
    made = run(tables)
    assert made.node.tolist() == [1]
    assert made.amount.tolist() == [[4000, 100, 2, 2]]
    assert codes(made) == {1: VerdictCode.STARTED, 2: VerdictCode.RESOURCES}
    assert value(made, "planned", 2) == 110


def test_an_untyped_request_takes_any_type_the_scarcest_that_suffices_first() -> None:
    tables = Tables()
    gres = (("gpu", "a", 3), ("gpu", "b", 2))
    tables.nodes.set("n", cpu=9000, memory=1, gres=gres, partitions=("p",))
    submit(tables, 1, gres_per_node=(("gpu", "", 2),))
    submit(tables, 2, gres_per_node=(("gpu", "a", 2),))
    submit(tables, 3, gres_per_node=(("gpu", "", 1),))
    submit(tables, 4, gres_per_node=(("gpu", "", 1),))
    made = run(tables)
    taken = [tables.dims.named(row) for row in made.amount.tolist()]
    assert [(row.get("gres/gpu:a", 0), row.get("gres/gpu:b", 0)) for row in taken] == [
        (0, 2),
        (2, 0),
        (1, 0),
    ]
    assert codes(made)[4] == VerdictCode.RESOURCES


def test_tasks_are_packed_at_least_one_to_a_node_and_the_first_nodes_filled() -> None:
    tables = cluster(nodes=3)
    submit(tables, 1, ntasks=6, min_nodes=3, max_nodes=3)
    submit(tables, 2, ntasks=5)
    made = run(tables)
    assert made.tasks[made.start_ptr[0] : made.start_ptr[1]].tolist() == [4, 1, 1]
    assert made.tasks[made.start_ptr[1] :].tolist() == [3, 2]


def test_a_bound_on_nodes_takes_the_widest_where_the_first_do_not_suffice() -> None:
    tables = cluster(nodes=2)
    tables.nodes.set("wide", cpu=16000, memory=1, partitions=("p",), weight=9)
    submit(tables, 1, ntasks=18, max_nodes=2)
    made = run(tables)
    names = [tables.nodes.names.text(row) for row in made.node.tolist()]
    assert (names, made.tasks.tolist()) == (["n0", "wide"], [4, 14])


def test_a_node_range_takes_as_many_nodes_as_can_be_had() -> None:
    tables = cluster(nodes=3)
    submit(tables, 1, min_nodes=2, max_nodes=8, cpu_per_task=4000)
    submit(tables, 2, min_nodes=2, max_nodes=2)
    made = run(tables)
    assert made.node.tolist() == [0, 1, 2]
    assert codes(made)[2] == VerdictCode.RESOURCES


def test_nodes_of_lower_weight_then_the_most_used_are_filled_first() -> None:
    tables = cluster(nodes=3)
    tables.nodes.set("n0", cpu=4000, memory=100, partitions=("p",), weight=5)
    tables.running.add(90, 500, [2], [[1000, 0]])
    submit(tables, 1, count=8)
    assert run(tables).node.tolist() == [2, 2, 2, 1, 1, 1, 1, 0]


def test_every_partition_has_a_head_and_promises_share_no_node() -> None:
    tables = cluster(nodes=2, partitions=("p",))
    tables.nodes.set("q0", cpu=4000, memory=1, partitions=("q",))
    for row in range(3):
        tables.running.add(90 + row, 150 + row, [row], [[1000, 0]])
    submit(tables, 1, cpu_per_task=4000)
    submit(tables, 2, cpu_per_task=4000, partitions=("q",))
    submit(tables, 3, duration=999, count=9)
    submit(tables, 4, duration=999, partitions=("q",))
    made = run(tables)
    assert made.head_job.tolist() == [1, 2]
    assert made.head_start.tolist() == [150, 152]
    assert made.head_node.tolist() == [0, 2]
    assert value(made, "placed", 3) == 3
    assert codes(made)[4] == VerdictCode.PRIORITY


def test_a_list_of_partitions_is_tried_in_order() -> None:
    tables = cluster(nodes=1)
    tables.nodes.set("other", cpu=4000, memory=1, partitions=("q",))
    submit(tables, 1, cpu_per_task=4000, partitions=("q", "p"), count=2)
    made = run(tables)
    names = [tables.nodes.partition_names.text(p) for p in made.start_partition.tolist()]
    assert names == ["q", "p"]


def test_depth_and_the_bound_on_starts_leave_the_rest_for_a_later_pass() -> None:
    tables = cluster(nodes=2)
    for job_id in range(1, 5):
        submit(tables, job_id)
    made = run(tables, Policy(depth=2))
    assert made.examined == made.starts == 2
    assert codes(made)[3] == codes(made)[4] == VerdictCode.NOT_REACHED
    made = run(tables, Policy(max_starts=3))
    assert made.starts == 3
    assert codes(made)[4] == VerdictCode.NOT_REACHED


def test_without_budget_for_estimates_only_heads_have_a_planned_start() -> None:
    tables = cluster(nodes=1)
    tables.running.add(90, 150, [0], [[4000, 0]])
    submit(tables, 1)
    submit(tables, 2, cpu_per_task=2000)
    made = run(tables, Policy(estimate_steps=0))
    assert [value(made, "planned", job) for job in (1, 2)] == [150, -1]


def test_a_plan_changes_no_table() -> None:
    def built() -> Tables:
        tables = cluster(nodes=2)
        tables.running.add(90, 150, [0], [[3000, 0]])
        for job_id in range(1, 5):
            submit(tables, job_id, cpu_per_task=2000, min_nodes=job_id % 2 + 1)
        return tables

    tables = built()
    run(tables)
    assert tables.equals(built())


@pytest.mark.parametrize(
    ("request_", "nodes", "short"),
    [
        ({"cpu_per_task": 4000}, 2, None),
        ({"cpu_per_task": 5000}, 0, "cpu"),
        ({"memory_per_node": 101}, 0, "memory"),
        ({"gres_per_node": (("gpu", "", 2),)}, 2, None),
        ({"gres_per_node": (("gpu", "b", 1),)}, 0, None),
        ({"partitions": ("nowhere",)}, 0, None),
        ({"features": (("none",),)}, 0, None),
        ({"min_nodes": 3}, 0, None),
        ({"ntasks": 9}, 0, None),
        ({"ntasks": 8}, 2, None),
        ({"required": ("ghost",)}, 0, None),
    ],
)
def test_feasible_names_the_nodes_or_what_is_short(
    request_: dict[str, Any], nodes: int, short: str | None
) -> None:
    tables = cluster(nodes=2, gres=(("gpu", "a", 2),))
    whole = Request(**({"partitions": ("p",), "cpu_per_task": 1000} | request_))
    found, dimension = feasible(tables.nodes, whole)
    assert found == nodes
    assert (tables.dims.name(dimension) if dimension >= 0 else None) == short
    assert len(tables.dims) == 4
