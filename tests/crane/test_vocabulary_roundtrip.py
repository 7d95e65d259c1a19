"""Round trips of every grammar, and: arbitrary text either parses or raises a CraneError."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane import (
    arrayspec,
    dependency,
    environment,
    features,
    filepattern,
    gres,
    hostlist,
    memspec,
    selector,
    signals,
    timespec,
    values,
)
from crane.errors import CraneError
from crane.jobspec import UNLIMITED, ArraySpec, Dependency, DependencyKind, DependencyTerm, Gres

quick = settings(deadline=None, max_examples=60)

words = st.from_regex(r"\A[a-z][a-z0-9_]{0,8}\Z")
numbers = st.one_of(
    st.integers(0, 120).map(str),
    st.integers(0, 999).map(lambda n: f"{n:03}"),
)
node_names = st.one_of(
    st.builds(lambda w, n: w + n, words, numbers),
    words,
    st.builds(lambda w, n, s: f"{w}{n}-{s}", words, numbers, words),
)


@quick
@given(st.lists(node_names, max_size=40))
def test_hostlist_compress_then_expand_gives_the_same_names_in_order(names):
    assert hostlist.expand(hostlist.compress(names)) == names


@quick
@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(0, 8))
def test_hostlist_of_consecutive_numbers_is_one_range(start, length, width):
    names = [f"n{number:0{width}}" for number in range(start, start + length + 1)]
    text = hostlist.compress(names)
    assert hostlist.expand(text) == names
    assert "," not in text


@quick
@given(st.integers(0, timespec.MAX_SECONDS), st.booleans())
def test_duration_round_trip(seconds, full):
    assert timespec.parse_duration(timespec.format_duration(seconds, full=full)) == seconds


def test_unlimited_round_trip():
    assert timespec.parse_duration(timespec.format_duration(UNLIMITED)) == UNLIMITED


@quick
@given(st.integers(1, 2**33 - 1))
def test_instant_round_trip_with_and_without_zone(seconds):
    import time

    ns = seconds * timespec.NS
    utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    assert timespec.parse_when(utc, 0) == ns
    local = timespec.format_when(ns)
    # An hour that a clock change repeats is ambiguous; its text is still the same.
    assert timespec.format_when(timespec.parse_when(local, 0)) == local


@quick
@given(st.integers(0, memspec.MAX_MIB))
def test_memory_round_trip(mib):
    assert memspec.parse_mem(memspec.format_mem(mib)) == mib


@quick
@given(st.integers(1, memspec.MAX_CPUS))
def test_cpus_round_trip(thousandths):
    assert memspec.parse_cpus(memspec.format_cpus(thousandths)) == thousandths


@quick
@given(
    st.dictionaries(st.tuples(words, words), st.integers(1, 99), max_size=5).map(
        lambda d: tuple(Gres(n, t, c) for (n, t), c in sorted(d.items()))
    )
)
def test_gres_round_trip(items):
    assert gres.parse(gres.format_gres(items)) == items


ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(1, 7)), min_size=1, max_size=6
)


def as_text(parts):
    return ",".join(f"{a}-{a + n}:{s}" for a, n, s in parts)


@settings(deadline=None, max_examples=300)
@given(ranges, st.integers(0, 9))
def test_array_equals_the_set_of_its_indices(parts, limit):
    oracle = sorted({i for a, n, s in parts for i in range(a, a + n + 1, s)})
    spec = arrayspec.parse(as_text(parts) + f"%{limit}")
    assert list(arrayspec.indices(spec)) == oracle
    assert arrayspec.count(spec) == len(oracle)
    assert (arrayspec.first(spec), arrayspec.last(spec)) == (oracle[0], oracle[-1])
    assert all(a[1] < b[0] for a, b in zip(spec.ranges, spec.ranges[1:], strict=False))
    positions = arrayspec.Positions(spec)
    place = {index: position for position, index in enumerate(oracle)}
    for index in range(-1, oracle[-1] + 2):
        assert arrayspec.position_of(spec, index) == place.get(index)
        assert positions.position_of(index) == place.get(index)
    for position, index in enumerate(oracle):
        assert arrayspec.index_at(spec, position) == positions.index_at(position) == index
    for outside in (-1, len(oracle)):
        with pytest.raises(IndexError):
            arrayspec.index_at(spec, outside)
        with pytest.raises(IndexError):
            positions.index_at(outside)


@settings(deadline=None, max_examples=200)
@given(ranges, st.integers(0, 9))
def test_array_round_trip_is_a_normal_form(parts, limit):
    spec = arrayspec.parse(as_text(parts) + f"%{limit}")
    assert arrayspec.parse(arrayspec.format_array(spec)) == spec
    assert arrayspec.normalise(spec.ranges) == spec.ranges


@quick
@given(st.sets(st.integers(0, 200), min_size=1))
def test_compressed_indices_read_back(found):
    text = arrayspec.compress_indices(sorted(found))
    assert list(arrayspec.indices(arrayspec.parse(text))) == sorted(found)


job_ids = st.integers(1, dependency.MAX_JOB_ID)
tasks = st.one_of(st.just(-1), st.integers(0, 10**6))
terms = st.one_of(
    st.builds(
        DependencyTerm,
        st.sampled_from([k for k in DependencyKind if k is not DependencyKind.SINGLETON]),
        job_ids,
        tasks,
    ),
    st.builds(
        lambda j, t, m: DependencyTerm(DependencyKind.AFTER, j, t, m * 60),
        job_ids,
        tasks,
        st.integers(0, 1000),
    ),
    st.just(DependencyTerm(DependencyKind.SINGLETON)),
)


@quick
@given(st.lists(terms, min_size=1, max_size=6, unique=True), st.booleans())
def test_dependency_round_trip(items, any_of):
    given_ = Dependency(tuple(items), any_of and len(items) > 1)
    assert dependency.parse(dependency.format_dependency(given_)) == given_


expressions = st.recursive(
    st.sampled_from("abcde"),
    lambda inner: st.builds(
        lambda left, op, right: f"({left}{op}{right})", inner, st.sampled_from("&|"), inner
    ),
    max_leaves=8,
)


@quick
@given(expressions, st.sets(st.sampled_from("abcde")))
def test_feature_normal_form_means_the_same(expression, has):
    truth = eval(
        expression.replace("&", " and ").replace("|", " or "), {n: n in has for n in "abcde"}
    )
    found = features.parse(expression)
    assert any(has.issuperset(names) for names in found.every) == truth
    assert found.met_by([tuple(has)]) == truth
    assert features.parse(features.format_features(found)) == found


@quick
@given(expressions, expressions, st.lists(st.sets(st.sampled_from("abcde")), min_size=1))
def test_brackets_ask_all_nodes_for_the_same_alternative(outside, inside, nodes):
    found = features.parse(f"{outside}&[{inside}]")
    every, same = features.parse(outside).every, features.parse(inside).every
    truth = any(all(node.issuperset(a) for node in nodes) for a in same) and all(
        any(node.issuperset(a) for a in every) for node in nodes
    )
    assert found.met_by([tuple(node) for node in nodes]) == truth
    assert features.parse(features.format_features(found)) == found


@quick
@given(
    st.builds(
        selector.JobSelector,
        job_ids,
        st.sampled_from([(), ((3, 3, 1),), ((1, 5, 1), (8, 8, 1)), ((0, 8, 2),)]),
        st.just(-1),
        st.one_of(st.none(), st.integers(0, 99), st.just(-1), st.just(-2)),
    ),
    st.integers(-1, 100),
)
def test_selector_round_trip(item, component):
    if not item.tasks:
        item = replace(item, component=component)
    assert selector.parse(selector.format_selector(item)) == (item,)


@quick
@given(st.integers(1, 64), st.integers(0, 65535), st.booleans())
def test_warning_round_trip(number, seconds, shell_only):
    warning = signals.LimitWarning(number, seconds, shell_only)
    assert signals.parse_warning(signals.format_warning(warning)) == warning


pieces = st.lists(
    st.one_of(
        st.sampled_from(["%%", "%j", "%4j", "%A", "%a", "%J", "%N", "%n", "%02t", "%u", "%x"]),
        st.text("ab./-_09", max_size=4),
    )
)


@quick
@given(pieces)
def test_file_pattern_is_the_concatenation_of_its_pieces(parts):
    context = filepattern.FileContext(128, 120, 7, 0, "n3.site", 1, 2, "ann", "my/job")
    joined = "".join(filepattern.expand(part, context) for part in parts)
    assert filepattern.expand("".join(parts), context) == joined


grammar_text = st.one_of(
    st.text(max_size=30),
    st.text("0123456789-:,[]%_+.?*&|() nowdaysgKMGB@Ttruefalse=", max_size=24),
)

PARSERS = [
    hostlist.expand,
    timespec.parse_duration,
    lambda text: timespec.parse_when(text, 1_700_000_000 * timespec.NS),
    lambda text: timespec.parse_when(text, 1_700_000_000 * timespec.NS, past=True),
    memspec.parse_mem,
    memspec.parse_cpus,
    gres.parse,
    gres.parse_gpus,
    arrayspec.parse,
    dependency.parse,
    features.parse,
    selector.parse,
    filepattern.validate,
    signals.parse_signal,
    signals.parse_warning,
    environment.validate,
    values.nodes,
    values.tasks,
    values.words,
    values.licences,
    values.open_mode,
    values.mail_type,
    values.nice,
    values.priority,
    values.exclusive,
    values.bit,
    values.rendezvous,
    values.when,
    values.text,
    values.wrapped,
]


@settings(deadline=None, max_examples=250)
@given(grammar_text)
def test_arbitrary_text_parses_or_raises_a_crane_error(text):
    for parse in PARSERS:
        with suppress(CraneError):
            parse(text)


def test_a_million_indices_are_one_range():
    spec = arrayspec.parse("0-999999:1%500")
    assert spec == ArraySpec(((0, 999_999, 1),), 500)
    assert arrayspec.count(spec) == 1_000_000
    assert arrayspec.index_at(spec, 999_999) == 999_999
