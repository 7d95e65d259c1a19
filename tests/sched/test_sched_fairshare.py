"""Fair-share: decay that depends on no order, Fair Tree and classic factors equal to the book."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle_priority as book
from sched_core.decay import Decay, exp2
from sched_core.fairshare import ONE, classic, fair_tree, standing
from sched_core.shares import INHERIT, ROOT, USAGE_MAX, ShareTable

SEEDS = st.integers(0, 2**32)
WEEK = 7 * 86400


def random_tree(seed: int, size: int = 14, *, inherit: bool = False) -> book.Tree:
    """Few different numbers, so that ties of every kind are common."""
    rng = random.Random(seed)
    tree: book.Tree = {}
    accounts = ["root"]
    for i in range(rng.randint(1, size)):
        user = rng.random() < 0.6
        used = rng.choice([0, 0, 1, 2, 3, 6, 12]) if user or rng.random() < 0.2 else 0
        shares = rng.choice([0, 1, 1, 1, 2, 3])
        if inherit and rng.random() < 0.2:
            shares = INHERIT
        tree[f"x{i}"] = book.Association(rng.choice(accounts), shares, user, used)
        if not user:
            accounts.append(f"x{i}")
    return tree


def table_of(tree: book.Tree, order: list[str] | None = None) -> ShareTable:
    """The same in a table; without decay, so that usage is exactly what is charged."""
    table = ShareTable(half_life=0)
    for name, row in tree.items():
        table.add(name, row.parent, shares=row.shares, user=row.user)
    for name in order or tree:
        table.charge(name, tree[name].used, 0, 1)
    return table


@given(seed=SEEDS, inherit=st.booleans())
@settings(deadline=None, max_examples=150)
def test_fair_tree_equals_the_book(seed: int, inherit: bool) -> None:
    tree = random_tree(seed, inherit=inherit)
    table = table_of(tree)
    wanted = book.fair_tree(tree)
    factors = fair_tree(table, 1)
    for name, row in tree.items():
        expected = math.floor(wanted[name] * ONE) if row.user else 0
        assert factors[table.row(name)] == expected, name
    used, level = standing(table, 1)
    for name in tree:
        assert used[table.row(name)] == book.total_used(tree, name)
        assert level[table.row(name)] == min(math.floor(book.level(tree, name) * ONE), 1 << 62)


@given(seed=SEEDS, damping=st.sampled_from([1, 1, 3]), inherit=st.booleans())
@settings(deadline=None, max_examples=100)
def test_classic_equals_the_book(seed: int, damping: int, inherit: bool) -> None:
    tree = random_tree(seed, inherit=inherit)
    table = table_of(tree)
    factors = classic(table, 1, damping)
    for name in tree:
        expected = book.classic(tree, name, damping)
        assert factors[table.row(name)] / ONE == pytest.approx(expected, abs=1e-7), name


def test_the_example_of_ties() -> None:
    """Two accounts of one level merge; the user beside them has the rank of their best user."""
    table = ShareTable(half_life=0)
    table.add("beside", shares=1, user=True)
    for account in ("a", "b"):
        table.add(account, shares=1)
        for user, used in (("1", 1), ("2", 3)):
            table.add(account + user, account, user=True)
            table.charge(account + user, used, 0, 1)
    table.charge("beside", 4, 0, 1)
    factors = fair_tree(table, 1)
    rank = {name: factors[table.row(name)] * 5 / ONE for name in ("beside", "a1", "b1", "a2", "b2")}
    assert rank == pytest.approx({"beside": 5, "a1": 5, "b1": 5, "a2": 2, "b2": 2}, abs=1e-8)


def test_users_that_inherit_are_one_and_accounts_that_do_are_looked_through() -> None:
    table = ShareTable(half_life=0)
    table.add("team", shares=1)
    for user, used in (("x", 0), ("y", 70)):
        table.add(user, "team", shares=INHERIT, user=True)
        table.charge(user, used, 0, 1)
    table.add("faculty", shares=INHERIT)
    table.add("lab", "faculty", shares=1)
    table.add("z", "lab", user=True)
    table.charge("z", 30, 0, 1)
    ranks = fair_tree(table, 1)
    x, y, z = (table.row(name) for name in ("x", "y", "z"))
    assert ranks[z] == ONE, "lab is beside team, and has used less"
    assert ranks[x] == ranks[y] == ONE * 2 // 3
    halves = classic(table, 1)
    assert halves[x] == halves[y] == halves[table.row("team")]


@given(seed=SEEDS, more=st.integers(1, 50))
@settings(deadline=None, max_examples=80)
def test_more_usage_never_ranks_better_and_better_accounts_come_first(seed: int, more: int) -> None:
    tree = random_tree(seed)
    table = table_of(tree)
    before = fair_tree(table, 1)
    users = [name for name, row in tree.items() if row.user]
    for name in users:
        for other in (o for o in users if tree[o].parent == tree[name].parent):
            no_worse = book.level(tree, name) >= book.level(tree, other)
            assert no_worse == (before[table.row(name)] >= before[table.row(other)])
    for name, row in tree.items():
        for other in book.children(tree, row.parent):
            mine = [before[table.row(user)] for user in below(tree, name)]
            theirs = [before[table.row(user)] for user in below(tree, other)]
            if mine and theirs and book.level(tree, name) > book.level(tree, other):
                assert min(mine) > max(theirs)
    if users:
        assert max(before[table.row(user)] for user in users) == ONE
        chosen = random.Random(seed).choice(users)
        old = {name: before[table.row(name)] for name in users}
        table.charge(chosen, more, 0, 1)
        after = fair_tree(table, 1)
        siblings = [o for o in users if tree[o].parent == tree[chosen].parent and o != chosen]
        passed = [o for o in siblings if old[o] >= old[chosen]]
        assert all(after[table.row(o)] >= after[table.row(chosen)] for o in passed)


def below(tree: book.Tree, name: str) -> list[str]:
    if tree[name].user:
        return [name]
    return [user for child in book.children(tree, name) for user in below(tree, child)]


Usage = tuple[int, int, int, int]


@st.composite
def usages(draw: st.DrawFn) -> list[Usage]:
    some = st.tuples(
        st.integers(0, 1), st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**6)
    )
    return [(u, r, a, a + length) for u, r, a, length in draw(st.lists(some, max_size=8))]


@given(history=usages(), seed=SEEDS, half_life=st.sampled_from([0, 86400, WEEK]))
@settings(deadline=None, max_examples=60)
def test_what_counts_depends_on_no_order_and_no_cut(
    history: list[Usage], seed: int, half_life: int
) -> None:
    rng = random.Random(seed)
    whole, cut = ShareTable(half_life), ShareTable(half_life)
    for table in (whole, cut):
        table.add("0", user=True)
        table.add("1", user=True)
    for user, rate, start, end in history:
        whole.charge(str(user), rate, start, end)
    for user, rate, start, end in rng.sample(history, len(history)):
        middle = rng.randint(start, end)
        cut.charge(str(user), rate, middle, end)
        cut.begin(str(user), rate, start)
        cut.finish(str(user), rate, middle)
    assert whole.equals(cut)
    now = 2 * 10**7
    usage = whole.usage(now)
    for user in (0, 1):
        mine = [(r, a, b) for u, r, a, b in history if u == user]
        if half_life == 0:
            assert usage[whole.row(str(user))] == sum(r * (b - a) for r, a, b in mine)
        elif half_life == WEEK:
            expected = sum(book.decayed(r, a, b, now, half_life) for r, a, b in mine)
            assert usage[whole.row(str(user))] == pytest.approx(expected, rel=1e-6, abs=1.01)


def test_a_half_life_halves_and_running_jobs_count_until_now() -> None:
    table = ShareTable(half_life=WEEK, epoch=10**9)
    table.add("u", user=True)
    row, start = table.row("u"), 10**9 + 12345
    table.begin("u", 2000, start)
    hour = int(table.usage(start + 3600)[row])
    assert hour == pytest.approx(2000 * 3600, rel=3e-3)
    table.finish("u", 2000, start + 3600)
    assert table.usage(start + 3600)[row] == hour
    assert table.usage(start + 3600 + WEEK)[row] == hour // 2
    assert table.usage(start + 3600 + 400 * WEEK)[row] == 0
    table.charge("u", 1000, start, start + 60)
    table.reset(start + 7200)
    assert table.usage(start + 7200)[row] == 0


def test_integers_stay_bounded_over_very_many_half_lives() -> None:
    table = ShareTable(half_life=60)
    table.add("u", user=True)
    for month in range(1, 40):
        table.charge("u", 4000, month * 2_600_000 - 30, month * 2_600_000)
        base = table.content()["u"][3]
        assert isinstance(base, int)
        assert base.bit_length() < 2048
    now = 39 * 2_600_000
    assert table.usage(now)[table.row("u")] == pytest.approx(
        book.decayed(4000, now - 30, now, now, 60), rel=1e-4
    )


@given(exponent=st.integers(-(10**9), 10**9), unit=st.integers(10**6, 10**9))
@settings(deadline=None, max_examples=100)
def test_powers_of_two_are_right(exponent: int, unit: int) -> None:
    value = exp2(exponent, unit)
    assert abs(math.log2(max(value, 1)) - max(64 + exponent / unit, 0)) < 1e-9 * 2000 + (
        1.0 if exponent / unit < -40 else 0.0
    )
    assert exp2(exponent + unit, unit) >> 1 in {value, value + 1, value - 1}


def test_the_tree_can_be_changed() -> None:
    table = ShareTable(half_life=0)
    table.add("a")
    table.add("b", shares=3)
    for user, account in (("u", "a"), ("v", "a"), ("w", "b")):
        table.add(user, account, user=True)
        table.charge(user, 10, 0, 1)
    table.move("v", "b")
    assert standing(table, 1)[0][table.row("b")] == 20
    table.remove("u")
    assert table.row("u") == -1
    assert standing(table, 1)[0][table.row("a")] == 10, "what it used stays with the account"
    assert len(table) == 5
    assert fair_tree(table, 1)[table.row("v")] == ONE
    again = table.add("u", "b", user=True)
    assert table.usage(1)[again] == 0
    with pytest.raises(AssertionError, match="below itself"):
        table.move("b", "b")
    with pytest.raises(AssertionError, match="hang below"):
        table.remove("b")
    with pytest.raises(ValueError, match="half-life"):
        Decay(-1)


def test_a_tree_without_users_and_columns_that_grow() -> None:
    table = ShareTable()
    assert fair_tree(table, 0).tolist() == [0]
    for i in range(40):
        table.add(f"a{i}", ROOT if i == 0 else f"a{i - 1}")
    table.add("deep", "a39", user=True)
    assert fair_tree(table, 0)[table.row("deep")] == ONE
    assert classic(table, 0)[table.row("deep")] == ONE


@given(
    st.integers(0, 1 << 62), st.integers(0, 10**6), st.integers(-(10**6), 10**6), st.integers(0, 9)
)
@settings(deadline=None)
def test_usage_put_down_is_what_it_was_and_is_forgotten_like_any(
    amount: int, half_life: int, epoch: int, later: int
) -> None:
    table = ShareTable(half_life, epoch)
    table.add("u", user=True)
    when = epoch + 10 * half_life + 77
    table.restore("u", amount, when)
    row = table.row("u")
    assert table.usage(when)[row] == min(amount, USAGE_MAX)
    left = int(table.usage(when + later * half_life)[row])
    expected = min(amount >> later if half_life else amount, USAGE_MAX)
    assert abs(left - expected) <= 1 + (amount >> 40)
