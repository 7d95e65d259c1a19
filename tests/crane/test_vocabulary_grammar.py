"""Each grammar's forms by example, and the code of each kind of malformed text."""

from __future__ import annotations

import re
import time

import pytest

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
from crane.errors import EXIT_STATUS, CraneError, ErrorCode, nearest
from crane.jobspec import BATCH_STEP, UNLIMITED, Dependency, DependencyKind, DependencyTerm, Gres

MALFORMED = [
    (hostlist.expand, "BAD_HOSTLIST", ["n[1", "n]1", "n[1-[2]]", "n[3-1]", "n[]", "n[1-]", "n[a]"]),
    (hostlist.expand, "BAD_HOSTLIST", [",", "a,,b", "a b", "-a", "a/b", "é", "n[1-99999999]"]),
    (hostlist.expand, "BAD_HOSTLIST", ["n[0-999][0-999]", "n[01-002]", "a..b", "x" * 64, "n[1],,"]),
    (timespec.parse_duration, "BAD_TIME", ["", "x", "1:2:3:4", "-5", "1-", "-", "1.5", "5m", "²"]),
    (timespec.parse_duration, "BAD_TIME", ["99999999999", "999999-0", "1-2-3", "1:", ":", " 5"]),
    (values.when, "BAD_TIME", ["", "soon", "25:00", "12:60", "2026-02-30", "13/01", "now+", "now*2"]),
    (values.when, "BAD_TIME", ["now+5parsecs", "2026-1", "2026-01-01T", "0pm", "13:00pm", "02/30"]),
    (values.when, "BAD_TIME", ["9999-01-01", "now+999999999999weeks", "2026-01-01Tnoonish"]),
    (memspec.parse_mem, "BAD_MEMORY", ["", "x", "-1", "1.5G", "1X", "G", "100B", "9" * 19, "2000000T"]),
    (memspec.parse_cpus, "BAD_CPUS", ["", "0", "-1", "1.", ".5", "0.0001", "x", "1e3", "2000000000"]),
    (gres.parse, "BAD_GRES", ["gpu:", ":2", "gpu:a:b", "gpu:a:1:2", "gpu:1,gpu:2", "gpu:1,gpu:x:1"]),
    (gres.parse, "BAD_GRES", ["gpu:9999999", "g pu:1", ",", "gpu:-1"]),
    (arrayspec.parse, "BAD_ARRAY", ["", "x", "5-3", "1-", "-1", "1-5:0", "1:2", "1,,2", "1-5%", "1%x"]),
    (arrayspec.parse, "BAD_ARRAY", ["9999999999", "0-1000000:2,1-1000001:3"]),
    (dependency.parse, "BAD_DEPENDENCY", ["", "afterok", "afterok:", "afterok:x", "after:1,x:2"]),
    (dependency.parse, "BAD_DEPENDENCY", ["afterok:1,afterok:2?afterok:3", "singleton:1", "12"]),
    (dependency.parse, "BAD_DEPENDENCY", ["afterok:1+5", "after:1+x", "afterok:0", "afterok:1_x"]),
    (dependency.parse, "BAD_DEPENDENCY", ["afterok" + ":1" * 2000, "expand:12"]),
    (features.parse, "BAD_FEATURES", ["[a*2|b]", "a*2", "[a*2", "a&", "|a", "(a", "a)", "a b", "a,b", "!a"]),
    (features.parse, "BAD_FEATURES", ["(" * 50 + "a" + ")" * 50, "&".join(["(a|b)"] * 2 + ["("])]),
    (features.parse, "BAD_FEATURES", ["&".join(f"(a{i}|b{i})" for i in range(20)), "x" * 5000]),
    (selector.parse, "BAD_SELECTOR", ["", "x", "0", "12_", "12_[", "12_[3-1]", "12.x", "12+", "12,,13"]),
    (selector.parse, "BAD_SELECTOR", ["-1", "12_3+0", "12.", "12_[1]]", "99999999999", "12+999"]),
    (filepattern.validate, "BAD_PATTERN", ["%z", "a%", "%99j", "%5%", "a\0b", "a\nb", "x" * 5000]),
    (signals.parse_signal, "BAD_SIGNAL", ["", "FOO", "0", "65", "-9", "TERMM"]),
    (signals.parse_warning, "BAD_SIGNAL", ["X:TERM", "TERM@", "TERM@x", "TERM@999999", "@5"]),
    (environment.validate, "BAD_EXPORT", ["ALL,NONE", ",", "=x", "A='b", "a b", "A=\0"]),
    (values.nodes, "BAD_VALUE", ["0", "x", "4-2", "-3", "1-", "99999999999", "k"]),
    (values.tasks, "BAD_VALUE", ["0", "-1", "x", "1.5", "9999999999999"]),
    (values.words, "BAD_VALUE", ["a,,b", ",", "a\nb"]),
    (values.licences, "BAD_VALUE", ["a|b", "a:0", "a:x", "a:1,a:2", ":1"]),
    (values.open_mode, "BAD_VALUE", ["x", "appendix"]),
    (values.mail_type, "BAD_VALUE", ["SOMETIMES"]),
    (values.exclusive, "BAD_VALUE", ["user", "mcs"]),
    (values.name, "BAD_VALUE", ["a\nb", "x" * 2000]),
    (values.rendezvous, "BAD_VALUE", ["mpi"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "code", "text"),
    [(parse, code, text) for parse, code, texts in MALFORMED for text in texts],
    ids=[
        f"{code}-{i}-{j}" for i, (_, code, texts) in enumerate(MALFORMED) for j in range(len(texts))
    ],
)
def test_malformed_text_has_its_code(parse, code, text):
    with pytest.raises(CraneError) as caught:
        parse(text)
    assert caught.value.code == code
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n[01-03,7],m2", ["n01", "n02", "n03", "n7", "m2"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("r[1-2]n[0-1]", ["r1n0", "r1n1", "r2n0", "r2n1"]),
        ("gpu[1-2]-ib", ["gpu1-ib", "gpu2-ib"]),
        ("n[099-101]", ["n099", "n100", "n101"]),
        ("login.example.org", ["login.example.org"]),
        ("", []),
    ],
)
def test_hostlists(text, names):
    assert hostlist.expand(text) == names


def test_hostlist_limit_counts_over_the_whole_list():
    assert len(hostlist.expand("n[1-5],m[1-5]", limit=10)) == 10
    with pytest.raises(CraneError):
        hostlist.expand("n[1-5],m[1-6]", limit=10)
    with pytest.raises(CraneError):
        hostlist.expand("a,b,c", limit=2)


def test_hostlist_compression_as_people_write_it():
    assert hostlist.compress(["n01", "n02", "n03", "n7", "m2"]) == "n[01-03,7],m2"
    assert hostlist.compress(["n9", "n10", "n11"]) == "n[9-11]"
    assert hostlist.compress(["n1"]) == "n1"
    assert sorted(["n10", "n2", "m1"], key=hostlist.sort_key) == ["m1", "n2", "n10"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 300), ("0:90", 90), ("10:00", 600), ("1:00:00", 3600), ("1-0", 86400), ("2-12", 216000),
     ("1-2:30", 95400), ("1-2:30:15", 95415), ("UNLIMITED", UNLIMITED), ("infinite", UNLIMITED),
     ("00:10:00", 600), ("0", 0)],
)  # fmt: skip
def test_durations(text, seconds):
    assert timespec.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "short", "full"),
    [(0, "0:00", "00:00:00"), (301, "5:01", "00:05:01"), (3723, "1:02:03", "01:02:03"),
     (183845, "2-03:04:05", "2-03:04:05"), (-1, "UNLIMITED", "UNLIMITED")],
)  # fmt: skip
def test_durations_print_as_squeue_and_sacct_do(seconds, short, full):
    assert timespec.format_duration(seconds) == short
    assert timespec.format_duration(seconds, full=True) == full


NOON = int(time.mktime((2026, 3, 14, 12, 0, 0, 0, 0, -1))) * timespec.NS


@pytest.mark.parametrize(
    ("text", "future", "past"),
    [
        ("now", "2026-03-14T12:00:00", "2026-03-14T12:00:00"),
        ("now+2hours", "2026-03-14T14:00:00", "2026-03-14T14:00:00"),
        ("now-2days", "2026-03-12T12:00:00", "2026-03-12T12:00:00"),
        ("now+90", "2026-03-14T12:01:30", "2026-03-14T12:01:30"),
        ("now + 1 week", "2026-03-21T12:00:00", "2026-03-21T12:00:00"),
        ("today", "2026-03-14T00:00:00", "2026-03-14T00:00:00"),
        ("tomorrow", "2026-03-15T00:00:00", "2026-03-15T00:00:00"),
        ("midnight", "2026-03-15T00:00:00", "2026-03-14T00:00:00"),
        ("noon", "2026-03-14T12:00:00", "2026-03-14T12:00:00"),
        ("teatime", "2026-03-14T16:00:00", "2026-03-13T16:00:00"),
        ("10:30", "2026-03-15T10:30:00", "2026-03-14T10:30:00"),
        ("4:05:06pm", "2026-03-14T16:05:06", "2026-03-13T16:05:06"),
        ("12:00 AM", "2026-03-15T00:00:00", "2026-03-14T00:00:00"),
        ("04/01", "2026-04-01T00:00:00", "2025-04-01T00:00:00"),
        ("0401", "2026-04-01T00:00:00", "2025-04-01T00:00:00"),
        ("01/02", "2027-01-02T00:00:00", "2026-01-02T00:00:00"),
        ("01/02/25", "2025-01-02T00:00:00", "2025-01-02T00:00:00"),
        ("2026-11-19", "2026-11-19T00:00:00", "2026-11-19T00:00:00"),
        ("2026-11-19T21:00", "2026-11-19T21:00:00", "2026-11-19T21:00:00"),
        ("2026-11-19 21:00:05", "2026-11-19T21:00:05", "2026-11-19T21:00:05"),
        ("2026-11-19-21:00:05", "2026-11-19T21:00:05", "2026-11-19T21:00:05"),
    ],
)
def test_instants(text, future, past):
    assert timespec.format_when(timespec.parse_when(text, NOON)) == future
    assert timespec.format_when(timespec.parse_when(text, NOON, past=True)) == past


def test_instants_with_zones():
    assert timespec.parse_when("1970-01-02T01:00:00+01:00", 0) == 86400 * timespec.NS
    assert timespec.parse_when("1970-01-01T23:30:00-00:30", 0) == 86400 * timespec.NS
    assert timespec.parse_when("1970-01-02T00:00:00.5Z", 0) == 86400 * timespec.NS
    assert timespec.format_when(0) == "N/A"


@pytest.mark.parametrize(
    ("text", "mib"),
    [("100", 100), ("1G", 1024), ("1GB", 1024), ("1GiB", 1024), ("477M", 477), ("1024K", 1),
     ("1025K", 2), ("1k", 1), ("0", 0), ("2t", 2 << 20), ("1P", 1 << 30)],
)  # fmt: skip
def test_memory_rounds_up(text, mib):
    assert memspec.parse_mem(text) == mib


def test_generic_resources():
    assert gres.parse("npu:4,gpu:a100:2") == (Gres("gpu", "a100", 2), Gres("npu", "", 4))
    assert gres.parse("gpu") == (Gres("gpu", "", 1),)
    assert gres.parse("gpu:a100") == (Gres("gpu", "a100", 1),)
    assert gres.parse("npu:910b3:8") == (Gres("npu", "910b3", 8),)
    assert gres.parse("gres/gpu=2") == (Gres("gpu", "", 2),)
    assert gres.parse("none") == gres.parse("") == gres.parse("gpu:0") == ()
    assert gres.parse_gpus("2") == (Gres("gpu", "", 2),)
    assert gres.parse_gpus("h100:1,a100:2") == (Gres("gpu", "a100", 2), Gres("gpu", "h100", 1))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0-99:2%10", "0-98:2%10"), ("1,3,7-9", "1,3,7-9"), ("3,2,1,1", "1-3"), ("1-5,4-9", "1-9"),
     ("0-10:5,0", "0-10:5"), ("0-8:2,10-20:2", "0-8:2,10-20:2"), ("0-8:2,4-12:2", "0-12:2"),
     ("1-100,4-40:3", "1-100"), ("0-4:2,1-3:2", "0-4"), ("7-9:5", "7"), ("5-8:3", "5,8")],
)  # fmt: skip
def test_arrays(text, shown):
    assert arrayspec.format_array(arrayspec.parse(text)) == shown


def test_array_step_is_that_of_a_single_range():
    assert arrayspec.step(arrayspec.parse("0-99:2")) == 2
    assert arrayspec.step(arrayspec.parse("1,3,7-9")) == 1


def test_dependencies():
    assert dependency.parse("afterok:12:13,after:4+5") == Dependency(
        (
            DependencyTerm(DependencyKind.AFTER_OK, 12),
            DependencyTerm(DependencyKind.AFTER_OK, 13),
            DependencyTerm(DependencyKind.AFTER, 4, -1, 300),
        )
    )
    found = dependency.parse("afterany:3_4?afternotok:5")
    assert found.any_of
    assert found.terms[0] == DependencyTerm(DependencyKind.AFTER_ANY, 3, 4)
    assert dependency.format_dependency(dependency.parse("afterok:1,afterok:1")) == "afterok:1"
    assert dependency.parse("aftercorr:7_*").terms == (
        DependencyTerm(DependencyKind.AFTER_CORR, 7),
    )


def test_features_bind_and_over_or():
    assert features.parse("a&b|c").every == (("a", "b"), ("c",))
    assert features.parse("(a|b)&c").every == (("a", "c"), ("b", "c"))
    assert features.normalise("c | b&a | a") == "a|c"
    assert features.parse("  ") == features.Constraint()


def test_counts_in_brackets_are_met_by_nodes_that_count_once():
    parsed = features.parse("ib&[r2*1 & r1*2]")
    assert parsed == features.Constraint((("ib",),), (), (("r1", 2), ("r2", 1)))
    assert parsed.counted() == 3
    assert features.normalise("[b&a*2]&c") == "c&[a*2&b*1]"
    both = ("ib", "r1", "r2")
    assert parsed.met_by([both, both, both])
    assert parsed.met_by([("ib", "r1"), both, both])
    assert not parsed.met_by([("ib", "r1"), ("ib", "r1"), ("ib", "r1")])
    assert not parsed.met_by([both, both])
    assert not parsed.met_by([both, both, ("r1",)])
    for bad, why in [
        ("[a*2|b*1]", "joined by '&'"),
        ("[a*0]", "must be 1 to"),
        ("[a*]", "must be 1 to"),
        ("[a*9999999999]", "must be 1 to"),
        ("[a*2&a*1]", "counted twice"),
        ("a*2", "a count outside of brackets"),
        ("[a*2]|b", "brackets beside '|'"),
        ("[a*2]&[b|c]", "alternatives and counts"),
        ("[a*2", "joined by '&'"),
    ]:
        with pytest.raises(CraneError, match=re.escape(why)) as caught:
            features.parse(bad)
        assert caught.value.code == ErrorCode.BAD_FEATURES


def test_alternatives_in_brackets_hold_for_all_nodes_together():
    parsed = features.parse("ib & [r2|r1]")
    assert parsed == features.Constraint((("ib",),), (("r1",), ("r2",)))
    assert parsed.choices() == ((("ib", "r1"),), (("ib", "r2"),))
    assert parsed.met_by([("ib", "r1"), ("ib", "r1", "r2")])
    assert not parsed.met_by([("ib", "r1"), ("ib", "r2")])
    assert not parsed.met_by([("r1",), ("r1",)])
    assert features.normalise("[b|a]&(d|c)") == "(c|d)&[a|b]"
    assert features.normalise("[a]&c") == "a&c"
    assert features.normalise("[a|a&b]") == "a"
    assert features.normalise("[a|b]&[c|d]") == "[a&c|a&d|b&c|b&d]"
    for bad, why in [
        ("[a|b]|c", "brackets beside '|'"),
        ("([a|b])&c", "brackets within parentheses"),
        ("[a|[b|c]]", "brackets within parentheses"),
        ("[a|b", "a '[' without its ']'"),
        ("[]", "a feature is missing before ']'"),
        ("&".join(f"[a{i}|b{i}]" for i in range(7)), "more than 64 alternatives in brackets"),
    ]:
        with pytest.raises(CraneError, match=re.escape(why)) as caught:
            features.parse(bad)
        assert caught.value.code == ErrorCode.BAD_FEATURES
        assert caught.value.hint


def test_selectors():
    one = selector.JobSelector
    assert selector.parse("12") == (one(12),)
    assert selector.parse("12_3,12_[1-5,8]") == (
        one(12, ((3, 3, 1),)),
        one(12, ((1, 5, 1), (8, 8, 1))),
    )
    assert selector.parse("12+0") == (one(12, (), 0),)
    assert selector.parse("12.batch,12.0,12_3.1") == (
        one(12, (), -1, BATCH_STEP),
        one(12, (), -1, 0),
        one(12, ((3, 3, 1),), -1, 1),
    )
    assert selector.parse("102_[3-9%2]") == (one(102, ((3, 9, 1),)),)
    assert selector.parse("7_*") == selector.parse("7_[*]") == (one(7),)
    assert selector.parse_all(["1,2", "2,3"]) == (one(1), one(2), one(3))
    assert selector.format_job_id(12, 3) == "12_3"
    assert selector.format_job_id(12) == "12"


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("job%J.out", "job128.0.out"),
        ("job%4j.out", "job0128.out"),
        ("job%2j-%2t.out", "job128-03.out"),
        ("%A_%a.log", "120_7.log"),
        ("%N-%n-%s-%u-%x-%b", "n3-1-0-ann-my_job-7"),
        ("100%%", "100%"),
        ("%%j", "%j"),
        ("\\%j/x", "%j/x"),
        ("a\\\\%j", "a\\%j"),
        ("plain", "plain"),
    ],
)
def test_file_patterns(pattern, name):
    context = filepattern.FileContext(128, 120, 7, 0, "n3.site.org", 1, 3, "ann", "my/job")
    assert filepattern.expand(pattern, context) == name


def test_file_patterns_of_a_plain_batch_job():
    context = filepattern.FileContext(128)
    assert filepattern.expand("%J-%A-%a-%s", context) == "128-128-4294967294-batch"
    assert filepattern.default_pattern(array=False) == "crane-%j.out"
    assert filepattern.letters("x%4j-%%%t") == {"j", "%", "t"}


def test_signals():
    assert [signals.parse_signal(s) for s in ("TERM", "SIGUSR2", "kill", "9", "34")] == [
        15, 12, 9, 9, 34,
    ]  # fmt: skip
    assert signals.parse_warning("B:USR2@90") == signals.LimitWarning(12, 90, True)
    assert signals.parse_warning("10") == signals.LimitWarning(10, 60, False)
    assert signals.format_signal(40) == "40"


def test_every_code_has_a_documented_exit_status():
    assert set(EXIT_STATUS) == set(ErrorCode)
    assert set(EXIT_STATUS.values()) <= set(range(2, 7))
    assert EXIT_STATUS[ErrorCode.CONTROLLER_UNREACHABLE] == 3
    assert EXIT_STATUS[ErrorCode.UNSATISFIABLE] == 4
    assert EXIT_STATUS[ErrorCode.BAD_FORMAT] == 5
    assert EXIT_STATUS[ErrorCode.STORE_CORRUPT] == 6


def test_an_error_reads_as_message_and_hint():
    error = CraneError(ErrorCode.USAGE, "what", "do this")
    assert str(error) == "what (do this)"
    assert str(error.at("job.sh:3")) == "job.sh:3: what (do this)"


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("tiem", "time"),
        ("partiton", "partition"),
        ("part", "partition"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_nearest_word(word, found):
    assert nearest(word, ["time", "partition", "nodes"]) == found
