"""Reservations as values and as a table: recurrence, who may, what is refused, what is kept."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core.reservation_table import HORIZON, ReservationTable
from sched_core.reservations import DAY, Acl, Principal, Repeat, Reservation, meet
from sched_core.tables import Tables

HOUR = 3600
MONDAY = 4 * DAY  # 5 January 1970
ALL = Acl(not_users=frozenset({"nobody"}))


def made(name: str = "r", **rest: Any) -> Reservation:
    return Reservation(name, **{"start": 100, "end": 200, "nodes": ("n1",), **rest})


def site() -> ReservationTable:
    tables = Tables()
    for name in ("n1", "n2"):
        gres = (("gpu", "a", 2), ("gpu", "b", 2), ("gpu", "", 1))
        tables.nodes.set(name, cpu=4000, memory=100, gres=gres, partitions=("p",))
    return tables.reservations


def kept(table: ReservationTable, name: str, node: int = 0) -> dict[str, int]:
    one = next(one for one in table.kept(0) if one.of.name == name)
    return table.nodes.dims.named(one.amount[one.node.tolist().index(node)].tolist())


def days(one: Reservation, since: int, count: int) -> list[int]:
    return [(start // DAY + 3) % 7 for start, _ in islice(one.instances(since, 1 << 40), count)]


def test_a_single_instance_is_there_until_it_is_over() -> None:
    one = made()
    assert list(one.instances(0, 1 << 40)) == [(100, 200)]
    assert list(one.instances(199, 1 << 40)) == [(100, 200)]
    assert not list(one.instances(200, 1 << 40))
    assert not list(one.instances(0, 100))


def test_recurring_instances_fall_on_their_days() -> None:
    at: dict[str, Any] = {"start": MONDAY + 9 * HOUR, "end": MONDAY + 17 * HOUR}
    assert days(made(repeat=Repeat.DAILY, **at), 0, 8) == [0, 1, 2, 3, 4, 5, 6, 0]
    assert days(made(repeat=Repeat.WEEKLY, **at), 0, 3) == [0, 0, 0]
    assert days(made(repeat=Repeat.WEEKDAY, **at), 0, 7) == [0, 1, 2, 3, 4, 0, 1]
    assert days(made(repeat=Repeat.WEEKEND, **at), 0, 3) == [5, 6, 5]
    # one that begins at 23:00 UTC on a Sunday begins on Monday two hours east of it
    late: dict[str, Any] = {"start": MONDAY - HOUR, "end": MONDAY, "repeat": Repeat.WEEKDAY}
    assert days(made(**late), 0, 2) == [0, 1]
    assert days(made(**late, east=2 * HOUR), 0, 2) == [6, 0]


def test_recurring_instances_end_with_until_and_start_with_what_is_not_over() -> None:
    one = made(repeat=Repeat.DAILY, until=100 + 3 * DAY)
    assert [s for s, _ in one.instances(0, 1 << 40)] == [100, 100 + DAY, 100 + 2 * DAY]
    assert next(one.instances(DAY + 150, 1 << 40)) == (100 + DAY, 200 + DAY)
    assert next(one.instances(DAY + 200, 1 << 40))[0] == 100 + 2 * DAY


@given(
    start=st.integers(0, 20 * DAY),
    length=st.integers(1, DAY),
    repeat=st.sampled_from(list(Repeat)),
    since=st.integers(0, 60 * DAY),
)
@settings(deadline=None, max_examples=200)
def test_skipping_to_the_first_instance_misses_none(
    start: int, length: int, repeat: Repeat, since: int
) -> None:
    one = made(start=start, end=start + length, repeat=repeat)
    every = [i for i in one.instances(0, 90 * DAY) if i[1] > since]
    assert list(one.instances(since, 90 * DAY)) == every


REPEATING = st.builds(
    lambda start, length, repeat, until: made(
        start=start, end=start + length, repeat=repeat, until=start + DAY * until
    ),
    st.integers(3, 20).map(lambda h: h * 6 * HOUR),
    st.sampled_from([HOUR, 7 * HOUR, DAY]),
    st.sampled_from(list(Repeat)),
    st.integers(8, 60),
)


@given(one=REPEATING, other=REPEATING)
@settings(deadline=None, max_examples=200)
def test_meeting_is_told_as_by_comparing_all_instances(
    one: Reservation, other: Reservation
) -> None:
    pairs = [
        (a, b)
        for a in one.instances(0, 90 * DAY)
        for b in other.instances(0, 90 * DAY)
        if a[0] < b[1] and b[0] < a[1]
    ]
    assert meet(one, other) == bool(pairs)
    assert meet(other, one) == bool(pairs)


def test_an_acl_permits_those_named_and_nobody_without_a_name() -> None:
    ann = Principal("ann", "physics", frozenset({"staff"}))
    bob = Principal(1001, "physics", frozenset({"guests"}))

    def who(**lists: frozenset[int | str]) -> tuple[bool, bool]:
        acl = Acl(**lists)
        return acl.permits(ann), acl.permits(bob)

    assert who() == (False, False)
    assert who(users=frozenset({"ann"})) == (True, False)
    assert who(users=frozenset({"ann"}), groups=frozenset({"guests"})) == (True, True)
    assert who(accounts=frozenset({"physics"})) == (True, True)
    assert who(users=frozenset({1001}), accounts=frozenset({"arts"})) == (False, False)
    assert who(not_users=frozenset({"ann"})) == (False, True)
    both = {"accounts": frozenset({"physics"}), "not_groups": frozenset({"guests"})}
    assert who(**both) == (True, False)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ({"start": 200}, "its end must be after its start"),
        ({"start": -1}, "its end must be after its start"),
        ({"nodes": ()}, "name 1 to"),
        ({"nodes": ("n1", "n1")}, "none of them twice"),
        ({"name": ""}, "needs a name"),
        ({"cpu": -1}, "amounts must be"),
        ({"cpu": 1, "maintenance": True}, "maintenance is of whole nodes"),
        ({"end": 100 + 2 * DAY, "repeat": Repeat.DAILY}, "before the last one has ended"),
        ({"until": 50}, "it has no instance"),
        ({"gres": (("gpu", "", 0),)}, "asks for none of any resource"),
    ],
)
def test_a_reservation_that_makes_no_sense_is_refused(rest: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        made(**rest)


def test_a_table_refuses_unknown_nodes_and_more_than_there_is() -> None:
    table = site()
    with pytest.raises(ValueError, match="there is no node n9"):
        table.set(made(nodes=("n1", "n9")))
    with pytest.raises(ValueError, match="n1 has 4000 of cpu, less than 5000"):
        table.set(made(cpu=5000))
    assert len(table) == 0


def test_reservations_overlap_only_where_there_is_enough_or_they_say_so() -> None:
    table = site()
    table.set(made("half", cpu=2000))
    table.set(made("other half", cpu=2000))
    for late in (made("more", cpu=1), made("all")):
        with pytest.raises(ValueError, match="others keep too much at the same time"):
            table.set(late)
    table.set(made("later", start=200, end=300))
    table.set(made("beside", nodes=("n2",)))
    table.set(made("service", maintenance=True))
    table.set(made("shared", overlap=True))
    table.set(made("half", cpu=1000))  # in its own place
    assert [one.of.name for one in table.kept(0)][:2] == ["service", "half"]


def test_types_of_devices_are_settled_beside_what_others_keep() -> None:
    table = site()
    table.set(made("two", gres=(("gpu", "a", 1), ("gpu", "", 1))))
    assert kept(table, "two") == {"gres/gpu": 2, "gres/gpu:a": 1}  # and one without a type
    table.set(made("three", gres=(("gpu", "", 3),)))
    assert kept(table, "three") == {"gres/gpu": 3, "gres/gpu:a": 1, "gres/gpu:b": 2}
    assert kept(table, "two") == {"gres/gpu": 2, "gres/gpu:a": 1}


def test_only_what_is_near_and_the_next_is_kept() -> None:
    table = site()
    table.set(made("daily", repeat=Repeat.DAILY))
    far = 500 + 3 * HORIZON
    table.set(made("far", start=far, end=far + 1))
    near, single = table.kept(50)
    assert len(near.instances) == HORIZON // DAY
    assert single.instances == ((far, far + 1),)
    assert [one.of.name for one in table.kept(far + 1)] == ["daily"]


def test_a_table_matters_while_it_keeps_or_somebody_waits_for_it() -> None:
    table = site()
    assert not table.matter(0)
    table.set(made(acl=Acl(users=frozenset({"ann"}))))
    assert table.matter(199)
    assert not table.matter(200)
    table.want(7, "r", Principal("ann"))
    table.want(8, "r", Principal("bob"))
    assert table.matter(200)
    assert (table.permits(7), table.permits(8)) == (True, False)
    table.forget(7)
    table.forget(8)
    table.remove("r")
    assert table.equals(site())
