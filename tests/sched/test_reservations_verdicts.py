"""What is said of jobs beside reservations: codes, counts of nodes, remedies, and overruns."""

from __future__ import annotations

import pytest

from sched_core.codes import VerdictCode
from sched_core.feasible import feasible
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.remedy import RemedyKind, remedies
from sched_core.reservations import Acl, Principal, Repeat, Reservation
from sched_core.tables import Request, Tables

HOUR = 3600
NOW = 100 * HOUR
ANN, BOB = Principal("ann"), Principal("bob")
ANNS = Acl(users=frozenset({"ann"}))
WHOLE = Request(("p",), cpu_per_node=4000)
POLICIES = [Policy(kind) for kind in PolicyKind]


def site(nodes: int = 4) -> Tables:
    tables = Tables()
    for i in range(nodes):
        tables.nodes.set(f"n{i}", cpu=4000, memory=100, partitions=("p",))
    return tables


def add(tables: Tables, job_id: int, duration: int, request: Request = WHOLE) -> None:
    shape = tables.shapes.intern(request)
    tables.jobs.add(job_id, shape, duration=duration, submit=job_id)


def planned(tables: Tables, policy: Policy, now: int = NOW) -> Plan:
    return plan(tables.nodes, tables.shapes, tables.jobs, tables.running, policy, now)


def codes(made: Plan) -> dict[int, VerdictCode]:
    pairs = zip(made.job.tolist(), made.code.tolist(), strict=True)
    return {job: VerdictCode(code) for job, code in pairs}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind.name)
def test_verdicts_tell_who_waits_for_a_reservation(policy: Policy) -> None:
    tables = site()
    soon = Reservation("soon", NOW + HOUR, NOW + 3 * HOUR, ("n0",), ANNS)
    tables.reservations.set(soon)
    for job_id, (duration, name, who) in enumerate(
        [(HOUR, "soon", ANN), (9 * HOUR, "soon", ANN), (1, "soon", BOB), (1, "gone", ANN)]
    ):
        add(tables, job_id, duration)
        tables.reservations.want(job_id, name, who)
    made = planned(tables, policy)
    assert set(codes(made).values()) == {VerdictCode.RESERVATION}
    assert made.planned.tolist() == [NOW + HOUR, -1, -1, -1]
    made = planned(tables, policy, NOW + HOUR)
    assert codes(made)[0] == VerdictCode.STARTED
    assert codes(made)[1] == VerdictCode.RESERVATION
    assert [tables.nodes.names.text(n) for n in made.node.tolist()] == ["n0"]
    assert made.matching.tolist()[:2] == [1, 1]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind.name)
def test_verdicts_count_nodes_that_are_reserved(policy: Policy) -> None:
    tables = site()
    tables.nodes.set_usable("n3", False)
    tables.reservations.set(Reservation("all", NOW, NOW + HOUR, ("n0",), ANNS))
    tables.reservations.set(Reservation("some", NOW, NOW + HOUR, ("n1", "n2"), ANNS, cpu=1000))
    tables.running.add(99, NOW + HOUR, [2], [[3000]])
    small = Request(("p",), cpu_per_node=3000, min_nodes=2)
    but_one = Request(("p",), cpu_per_node=4000, excluded=("n1",))
    for job_id, request in enumerate([WHOLE, small, but_one]):
        add(tables, job_id, 10, request)
    made = planned(tables, policy)
    assert made.starts == 0
    assert made.matching.tolist() == [4, 4, 3]
    assert made.usable.tolist() == [3, 3, 2]
    assert made.reserved.tolist() == [3, 1, 2]
    assert planned(tables, policy, NOW + HOUR).reserved.tolist() == [0, 0, 0]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind.name)
def test_maintenance_takes_no_job_and_leaves_those_that_run(policy: Policy) -> None:
    tables = site(nodes=1)
    tables.running.add(99, NOW + 9 * HOUR, [0], [[1000]])
    tables.reservations.set(Reservation("mine", NOW, NOW + 2 * HOUR, ("n0",), ANNS))
    off = Reservation("off", NOW, NOW + HOUR, ("n0",), ANNS, maintenance=True)
    tables.reservations.set(off)
    one = Request(("p",), cpu_per_node=1000)
    for job_id, name in enumerate(("", "mine", "off")):
        add(tables, job_id, HOUR, one)
        if name:
            tables.reservations.want(job_id, name, ANN)
    made = planned(tables, policy)
    assert made.starts == 0
    assert made.planned.tolist() == [NOW + 2 * HOUR, NOW + HOUR, -1]
    assert codes(made)[2] == VerdictCode.RESERVATION
    made = planned(tables, policy, NOW + HOUR)
    assert made.start_job.tolist() == [1]


def test_a_job_without_an_end_keeps_off_a_node_that_is_reserved_every_day() -> None:
    tables = site(nodes=2)
    daily = Reservation("daily", HOUR, 2 * HOUR, ("n0",), ANNS, repeat=Repeat.DAILY)
    tables.reservations.set(daily)
    for job_id in range(2):
        add(tables, job_id, 1 << 40)
    made = planned(tables, Policy(PolicyKind.EASY))
    assert [tables.nodes.names.text(n) for n in made.node.tolist()] == ["n1"]
    # between two instances there is room for what is short enough
    add(tables, 2, 20 * HOUR)
    assert planned(tables, Policy(PolicyKind.EASY), NOW + 22 * HOUR).start_job.tolist() == [0, 2]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind.name)
def test_members_run_past_the_end_only_where_they_may_and_others_know(policy: Policy) -> None:
    for overrun, started in ((False, []), (True, [0])):
        tables = site(nodes=1)
        mine = Reservation("mine", NOW, NOW + HOUR, ("n0",), ANNS, overrun=overrun)
        tables.reservations.set(mine)
        add(tables, 0, 3 * HOUR)
        tables.reservations.want(0, "mine", ANN)
        add(tables, 1, HOUR)
        made = planned(tables, policy)
        assert made.start_job.tolist() == started
        assert made.planned.tolist()[1] == NOW + (3 * HOUR if overrun else HOUR)


def test_a_member_that_runs_on_holds_its_node_after_the_end() -> None:
    tables = site(nodes=1)
    mine = Reservation("mine", NOW, NOW + HOUR, ("n0",), ANNS, cpu=2000, overrun=True)
    tables.reservations.set(mine)
    tables.running.add(9, NOW + 2 * HOUR, [0], [[2000]], reservation="mine")
    add(tables, 0, HOUR, Request(("p",), cpu_per_node=2000))
    add(tables, 1, HOUR, WHOLE)
    made = planned(tables, Policy(PolicyKind.EASY))
    assert made.start_job.tolist() == [0]
    assert made.planned.tolist() == [NOW, NOW + 2 * HOUR]
    tables.running.remove(9)
    assert planned(tables, Policy(PolicyKind.EASY)).planned.tolist() == [NOW, NOW + HOUR]


def test_a_shorter_limit_is_offered_where_a_reservation_is_in_the_way() -> None:
    tables = site(nodes=1)
    tables.reservations.set(Reservation("soon", NOW + HOUR, NOW + 2 * HOUR, ("n0",), ANNS))
    add(tables, 0, 2 * HOUR)
    (remedy,) = remedies(tables, Policy(PolicyKind.EASY), NOW, 0)
    assert (remedy.kind, remedy.limit, remedy.start) == (RemedyKind.TIME_LIMIT, HOUR, NOW)
    assert planned(tables, Policy(PolicyKind.EASY)).planned.tolist() == [NOW + 2 * HOUR]
    assert feasible(tables.nodes, WHOLE) == (1, -1)


def test_a_fold_of_changes_equals_the_tables_made_anew() -> None:
    tables, anew = site(), site()
    tables.reservations.set(Reservation("old", NOW, NOW + HOUR, ("n0",), ANNS))
    tables.reservations.set(Reservation("r", NOW, NOW + HOUR, ("n1",), ANNS))
    add(tables, 0, HOUR)
    tables.reservations.want(0, "r", ANN)
    tables.running.add(7, NOW, [0], [[1000]], reservation="old")
    assert not tables.equals(anew)
    tables.reservations.remove("old")
    tables.jobs.remove(0)
    tables.running.remove(7)
    anew.reservations.set(Reservation("r", NOW, NOW + HOUR, ("n1",), ANNS))
    assert tables.equals(anew)
