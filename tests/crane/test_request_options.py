"""Options of csub and crun: command line, environment, script lines, and the request they make."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crane import environment, options, request, script
from crane.errors import CraneError, ErrorCode
from crane.jobspec import UNLIMITED, Component, Gres, OpenMode

NOW = 1_700_000_000 * 10**9


def build(line="", environ=None, directives=None, tool="csub", **more):
    parsed = options.parse_argv(line.split() if isinstance(line, str) else line, tool)
    lines = None
    if directives is not None:
        content = b"#!/bin/sh\n" + directives.encode()
        lines = script.options_of(script.parse(content, "job.sh"), "job.sh", tool)
    return request.build(
        parsed, environ or {}, lines, tool=tool, work_dir="/home/ann", now_ns=NOW, **more
    )


def component(line, **more):
    return build(line, **more).spec.components[0]


def refused(code, call, *args, **more):
    with pytest.raises(CraneError) as caught:
        call(*args, **more)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["--time=10 --nodes=2 job.sh a -b", "--time 10 --nodes 2 job.sh a -b", "-t10 -N2 job.sh a -b",
     "-t 10 -N 2 -- job.sh a -b", "-HW -t 5 --time=10 -N2 job.sh a -b"],
)  # fmt: skip
def test_spellings_of_the_same_command_line(line):
    found = build(line)
    assert found.spec.time_limit == 600
    assert (found.spec.components[0].min_nodes, found.spec.components[0].max_nodes) == (2, 2)
    assert found.args == ("a", "-b")


def test_an_unknown_option_names_the_nearest():
    text = refused("UNKNOWN_OPTION", options.parse_argv, ["--tiem=5"], "csub")
    assert "did you mean --time?" in text
    refused("UNKNOWN_OPTION", options.parse_argv, ["--part=x"], "csub")
    refused("UNKNOWN_OPTION", options.parse_argv, ["-Z"], "csub")
    refused("UNKNOWN_OPTION", options.parse_argv, ["--parsable"], "crun")


def test_missing_and_needless_values():
    refused("USAGE", options.parse_argv, ["--time"], "csub")
    refused("USAGE", options.parse_argv, ["-t"], "csub")
    refused("USAGE", options.parse_argv, ["--parsable=1"], "csub")


def test_a_bad_value_names_its_option():
    assert refused("BAD_TIME", options.parse_argv, ["--time=x"], "csub").startswith("--time: ")
    with pytest.raises(CraneError, match="SBATCH_TIMELIMIT: "):
        build(environ={"SBATCH_TIMELIMIT": "x"})
    with pytest.raises(CraneError, match=r"job\.sh:2: --time: "):
        build(directives="#SBATCH --time=x\n")


def test_an_empty_value_means_unset():
    assert build("--partition=", directives="#SBATCH -p a\n").spec.partitions == ()
    assert build(["--partition", ""]).spec.partitions == ()
    assert build(directives="#SBATCH --partition=\n").spec.partitions == ()
    assert build(environ={"SBATCH_PARTITION": ""}, directives="#SBATCH -p a\n").spec.partitions == (
        "a",
    )


def test_precedence_is_command_line_environment_script():
    lines = "#SBATCH -t 1 -p a\n#CRANE -t 2 -A x\n#SBATCH -t 3\n"
    assert build(directives=lines).spec.time_limit == 120
    environ = {"SBATCH_TIMELIMIT": "4", "SBATCH_PARTITION": "b"}
    assert build(environ=environ, directives=lines).spec.time_limit == 240
    environ["CSUB_TIMELIMIT"] = "5"
    assert build(environ=environ, directives=lines).spec.time_limit == 300
    found = build("-t 6", environ=environ, directives=lines)
    assert (found.spec.time_limit, found.spec.partitions, found.spec.account) == (360, ("b",), "x")


def test_memory_of_a_more_important_source_replaces_the_other_kind():
    found = component("--mem=4G", directives="#SBATCH --mem-per-cpu=1G\n")
    assert (found.mem_per_node, found.mem_per_cpu) == (4096, 0)
    refused("CONFLICT", build, "--mem=4G --mem-per-cpu=1G")
    refused("CONFLICT", build, "--mem=4G --mem-per-gpu=1G --gpus-per-node=1")


def test_flags_in_the_environment():
    assert build(environ={"SBATCH_WAIT": "1"}).flag("wait")
    assert not build(environ={"SBATCH_WAIT": "0"}).flag("wait")
    assert build(environ={"SBATCH_NO_REQUEUE": ""}).spec.requeue is None
    assert build(environ={"SBATCH_NO_REQUEUE": "1"}).spec.requeue is False
    assert build("--requeue", environ={"SBATCH_NO_REQUEUE": "1"}).spec.requeue is True
    assert build(environ={"SBATCH_EXCLUSIVE": "1"}).spec.components[0].exclusive


def test_every_field_of_the_spec_has_an_option():
    found = build(
        "-J sim -D sub -i in -o out-%j -e err --open-mode=a -n 8 --ntasks-per-node=4 -c 0.5 "
        "--mem-per-cpu=500M --gres=gpu:a100:2 --exclusive -L a:2,b -p p1,p2 -w n[1-2] -x n3 "
        "-C b&a --reservation=r -t 1-0 --time-min=60 -b now+1hour --deadline=now+3days -d afterok:7 "
        "-a 0-9%3 -H --nice=5 --priority=9 --signal=B:USR1@30 --requeue -A acc -q q --wckey=w "
        "--comment=c --extra=e --mail-type=end,fail --mail-user=m --switches=1 --export=NONE "
        "--parsable job.sh x y"
    )
    spec = found.spec
    assert spec.components == (
        Component(
            min_nodes=2, ntasks=8, ntasks_per_node=4, cpus_per_task=500, mem_per_cpu=500,
            cpus_given=True,
            gres=(Gres("gpu", "a100", 2),), exclusive=True, features="a&b",
            nodelist=("n1", "n2"), exclude=("n3",),
        ),
    )  # fmt: skip
    assert (found.name, spec.work_dir, spec.stdin, spec.stdout, spec.stderr) == (
        "sim", "/home/ann/sub", "in", "out-%j", "err",
    )  # fmt: skip
    assert spec.open_mode is OpenMode.APPEND
    assert spec.licences == (("a", 2), ("b", 1))
    assert (spec.time_limit, spec.time_min) == (86400, 3600)
    assert (spec.begin, spec.deadline) == (NOW + 3600 * 10**9, NOW + 3 * 86400 * 10**9)
    assert (spec.hold, spec.nice, spec.priority, spec.requeue) == (True, 5, 9, True)
    assert (spec.signal, spec.mail_type, spec.export) == ("B:USR1@30", "END,FAIL", "NONE")
    assert found.array is not None
    assert found.array.limit == 3
    assert found.dependency is not None
    assert found.args == ("x", "y")
    assert found.flag("parsable")
    assert hash(spec) == hash(spec)


def test_the_directory_submitted_from_is_not_the_one_it_works_in():
    for line, work in (("", "/home/ann"), ("-D sub", "/home/ann/sub"), ("-D /tmp", "/tmp")):
        spec = build(line).spec
        assert (spec.work_dir, spec.submit_dir) == (work, "/home/ann")


def test_one_cpu_that_was_asked_for_is_told_from_the_default():
    assert component("") == Component()
    assert component("-c 1") == Component(cpus_given=True)
    assert component("", directives="#SBATCH -c 1\n").cpus_given


def test_defaults():
    found = build(script_name="job.sh", submit_host="login1", umask=0o27)
    assert found.spec == request.JobSpec(
        work_dir="/home/ann", submit_dir="/home/ann", submit_host="login1", umask=0o27
    )
    assert found.name == "job.sh"
    assert build("--wrap=ls").name == "wrap"
    assert build("-t 0").spec.time_limit == UNLIMITED
    assert build("--exclusive --mem=0").spec.components[0].mem_per_node == 0


@pytest.mark.parametrize(
    "line",
    ["--wrap=x job.sh", "-n 9 -N2 --ntasks-per-node=4", "-w n1 -x n1", "-w n[1-3] -N 2", "--mem=0",
     "--mem-per-cpu=0", "-w n[1-3] -n 2", "-t 5 --time-min=10", "--deadline=now-1hour",
     "-b now+2hours --deadline=now+1hour", "--gres=gpu:1 --gpus-per-node=1", "-G 3 -N 2", "-G 4 -n 4",
     "--gpus=1 --gpus-per-node=1", "-n 4 --gpus-per-task=1", "-n 3 -N 2 --gpus-per-task=1"],
)  # fmt: skip
def test_contradictions(line):
    refused("CONFLICT", build, line)


@pytest.mark.parametrize(
    ("line", "count"),
    [("--gpus-per-node=2", 2), ("-G 4", 4), ("-G 4 -N 2", 2), ("--gpus-per-task=2", 2),
     ("-n 4 -N 2 --gpus-per-task=1", 2), ("--ntasks-per-node=4 --gpus-per-task=1", 4),
     ("-N 2 --gpus-per-task=3", 3)],
)  # fmt: skip
def test_gpus_per_node_of_every_gpu_option(line, count):
    assert component(line).gres == (Gres("gpu", "", count),)


def test_gpus_join_other_resources():
    assert component("--gres=npu:2 --gpus-per-node=a100:1").gres == (
        Gres("gpu", "a100", 1),
        Gres("npu", "", 2),
    )


def test_more_nodes_than_tasks_are_reduced_with_a_notice():
    found = build("-n 2 -N 4")
    assert (found.spec.components[0].min_nodes, found.spec.components[0].max_nodes) == (2, 2)
    assert "taking 2 nodes" in found.notices[0]
    assert component("-n 3 -N 2-8").max_nodes == 3


def test_options_without_effect_are_noticed_once():
    found = build("--get-user-env --get-user-env=L --contiguous --clusters=all job.sh")
    assert len(found.notices) == 3
    assert all("no effect" in notice for notice in found.notices)


def test_slurm_output_of_a_template_with_quotes_and_comments():
    found = build(
        directives='# a comment\n\n#SBATCH --job-name="my job" # the name\n##SBATCH -p no\n'
        "#SBATCHED -p no\n  # indented\n#SBATCH\n#SBATCH --comment=a#b\necho\n#SBATCH -p late\n"
    )
    assert (found.name, found.spec.comment, found.spec.partitions) == ("my job", "a#b", ())
    assert any("job.sh:11" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("line", "code"),
    [("#SBATCH --tiem=5", "UNKNOWN_OPTION"), ("#CRANE 5", "USAGE"), ("#SBATCH -J 'x", "USAGE"),
     ("#SBATCH hetjob", "USAGE"), ("#SBATCH --time", "USAGE"), ("#CRANE -N x", "BAD_VALUE")],
)  # fmt: skip
def test_a_bad_script_line_names_its_place(line, code):
    assert refused(code, build, directives=f"\n{line}\n").startswith("job.sh:3: ")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "SCRIPT_EMPTY"), (b" \n\n", "SCRIPT_EMPTY"), (b"echo\n", "SCRIPT_NO_SHEBANG"),
     (b"\x7fELF\0\0", "SCRIPT_BINARY"), (b"#!/bin/sh\n\0", "SCRIPT_BINARY"),
     (b"#!/bin/sh\n" + b"x" * 100, "SCRIPT_TOO_LARGE"), (b"#!/bin/sh\r\n", "SCRIPT_LINE_ENDS")],
)  # fmt: skip
def test_what_cannot_be_a_script(content, code):
    refused(code, script.parse, content, "job.sh", 50)


def test_script_files(tmp_path):
    good = tmp_path / "good.sh"
    good.write_bytes(b"#!/bin/sh\necho caf\xe9\n")
    assert script.parse(script.read_file(str(good)), "good.sh").content == good.read_bytes()
    refused("SCRIPT_MISSING", script.read_file, str(tmp_path / "none.sh"))
    refused("SCRIPT_MISSING", script.read_file, str(good / "x"))
    refused("SCRIPT_MISSING", script.read_file, "")
    refused("SCRIPT_UNREADABLE", script.read_file, str(tmp_path))
    refused("SCRIPT_UNREADABLE", script.read_file, "a\0b")
    assert len(script.read_file("/dev/zero", 100)) == 101


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_script_without_read_permission(tmp_path):
    secret = tmp_path / "secret.sh"
    secret.write_bytes(b"#!/bin/sh\n")
    secret.chmod(stat.S_IWUSR)
    refused("SCRIPT_UNREADABLE", script.read_file, str(secret))


def test_wrap_makes_a_shell_script():
    assert script.parse(script.wrap("echo 'a b'"), "wrap").content == b"#!/bin/sh\necho 'a b'\n"


ENVIRON = {
    "PATH": "/bin", "HOME": "/home/ann", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0",
    "SLURMD_NODENAME": "n1", "CRANE_JOB_ID": "7", "CRANE_HOME": "/c", "SLURM_TIME_FORMAT": "x",
    "CRANE_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2", "MASTER_ADDR": "mine",
}  # fmt: skip


def test_exported_environment():
    everything = environment.exported("ALL", ENVIRON)
    assert set(everything) == {"PATH", "HOME", "CRANE_HOME", "SLURM_TIME_FORMAT", "MASTER_ADDR"}
    assert environment.exported("", ENVIRON) == everything
    assert environment.exported("NONE", ENVIRON) == {}
    assert environment.exported("HOME,X=1,MISSING", ENVIRON) == {"HOME": "/home/ann", "X": "1"}
    assert environment.exported("ALL,HOME=/x", ENVIRON) == everything | {"HOME": "/x"}
    assert environment.exported("A='x,y',B=p=q,C=", ENVIRON) == {"A": "x,y", "B": "p=q", "C": ""}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(
    st.sampled_from([f"--{o.long}" for o in options.TABLE] + [f"-{o.short}" for o in options.TABLE if o.short]),
    st.builds(lambda o, v: f"--{o.long}={v}", st.sampled_from(options.TABLE), st.text("0123:-,ab%", max_size=6)),
    st.text(max_size=8),
), max_size=6), st.sampled_from(options.BOTH))  # fmt: skip
def test_arbitrary_command_lines_parse_or_raise_a_crane_error(argv, tool):
    with suppress(CraneError):
        build(argv, tool=tool)


@settings(deadline=None, max_examples=100)
@given(
    st.binary(max_size=200) | st.text("#SBATCHRNE -'\"\\tN=1\n", max_size=80).map(lambda t: b"#!/s\n" + t.encode())
)  # fmt: skip
def test_arbitrary_scripts_parse_or_raise_a_crane_error(content):
    with suppress(CraneError):
        script.options_of(script.parse(content, "job.sh"), "job.sh")


@pytest.mark.parametrize("tool", options.BOTH)
def test_the_table_is_unambiguous_and_the_help_complete(tool):
    mine = [option for option in options.TABLE if tool in option.tools]
    for names in ([o.long for o in mine], [o.short for o in mine if o.short]):
        assert len(names) == len(set(names))
    suffixes = [o.env_suffix for o in mine if o.env_suffix]
    assert len(suffixes) == len(set(suffixes))
    text = options.help_text(tool, f"{tool} ...")
    assert all(f"--{option.long}" in text for option in mine)
    assert max(len(line) for line in text.splitlines() if "without effect" not in line) <= 110


def test_limits_on_arguments():
    refused(ErrorCode.LIMIT_EXCEEDED, build, ["job.sh", *["x"] * 20_000])


@pytest.mark.parametrize(
    ("given", "memory"),
    [
        ("--gpus-per-node=2", 6144),
        ("--gres=gpu:a100:3,npu:4", 9216),
        ("--gres=gpu:a100:1,gpu:v100:1", 6144),
        ("-G 4 -N 2", 6144),
        ("--gpus-per-task=2 --ntasks-per-node=4", 24576),
        ("-n 4 -N 2 --gpus-per-task=1", 6144),
    ],
)
def test_memory_per_gpu_is_memory_of_the_nodes_gpus(given, memory):
    found = component(f"--mem-per-gpu=3G {given}")
    assert (found.mem_per_node, found.mem_per_cpu) == (memory, 0)
    found = component(given, directives="#SBATCH --mem-per-gpu=3G\n")
    assert found.mem_per_node == memory


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("--mem-per-gpu=1G", "CONFLICT"),
        ("--mem-per-gpu=1G --gres=npu:2", "CONFLICT"),
        ("--mem-per-gpu=0 --gpus-per-node=1", "CONFLICT"),
        ("--mem-per-gpu=900P --gpus-per-node=4", "BAD_MEMORY"),
    ],
)
def test_memory_per_gpu_needs_gpus_and_a_possible_amount(given, code):
    refused(code, build, given)
