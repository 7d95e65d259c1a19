"""Bad input: one clear error, its exit status, nothing on standard output, nothing changed."""

from __future__ import annotations

import importlib
import io
import os
import sys

import pytest

from crane.errors import CraneError, ErrorCode

# command line, exit status, words of the message, whether the controller may be asked
TABLE = [
    ("csub --partitoin main --wrap true", 2, "did you mean --partition?"),
    ("csub --wrap true -t 1:2:3:4", 2, "--time"[2:]),
    ("csub --wrap true --mem 4X", 2, "invalid amount of memory"),
    ("csub --wrap true -w n[1", 2, "invalid node list"),
    ("csub --wrap true -a 5-1", 2, "invalid array"),
    ("csub --wrap true -d afterok:x", 2, "invalid dependency"),
    ("csub --wrap true -n 0", 2, "-n"),
    ("csub --wrap true -b yesterdayish", 2, "invalid date or time"),
    ("csub --wrap true -o %Q.out", 2, "unknown letter"),
    ("csub --wrap true --mem 1G --mem-per-cpu 1G", 2, "exclude each other"),
    ("csub --wrap true --gres gpu:a:b:c", 2, "invalid generic resource"),
    ("csub --wrap true script.sh", 2, "exclude each other"),
    ("csub --wrap", 2, "needs a value"),
    ("csub missing.sh", 2, "there is no script"),
    ("csub .", 2, "is a directory"),
    ("csub nobang.sh", 2, "does not name an interpreter"),
    ("csub binary.sh", 2, "binary file"),
    ("csub empty.sh", 2, "empty"),
    ("csub large.sh", 2, "larger than"),
    ("csub directive.sh", 2, "directive.sh:2"),
    ("csub --wrap true -o no/such/dir/out", 6, "does not exist"),
    ("csub --wrap true -D no-such-dir", 6, "does not exist"),
    ("csub --wrap true -o .", 6, "is a directory"),
    ("cqueue --frobnicate", 2, "unknown option"),
    ("cqueue --fromat x", 2, "did you mean --format?"),
    ("cqueue -o %!", 5, "there is no column"),
    ("cqueue -o %.99999i", 5, "wider than"),
    ("cqueue -o 100%", 5, "names no column"),
    ("cqueue -S ?", 2, "cannot sort"),
    ("cqueue -t runing", 2, "did you mean running?"),
    ("cqueue -u no-such-user-here", 4, "there is no user"),
    ("cqueue -j 12_x", 2, "invalid job id"),
    ("cqueue -i 0", 2, "seconds above 0"),
    ("cqueue 12", 2, "named with -j"),
    ("cinfo -o %?", 5, "there is no column"),
    ("cinfo -t idel", 2, "did you mean idle?"),
    ("cinfo -n n[1-]", 2, "invalid node list"),
    ("cacct -o jobib", 5, "did you mean jobid?"),
    ("cacct -o state%x", 5, "invalid width"),
    ("cacct -S nonsense", 2, "invalid date or time"),
    ("cacct -S 2026-01-02 -E 2026-01-01", 2, "before --starttime"),
    ("ccancel", 2, "no job given"),
    ("ccancel x", 2, "invalid job id"),
    ("ccancel --signal WHAT 12", 2, "unknown signal"),
    ("ccontrol", 2, "no command given"),
    ("ccontrol shw job", 2, "did you mean show?"),
    ("ccontrol show jbo", 2, "did you mean job?"),
    ("ccontrol hold", 2, "no job given"),
    ("ccontrol update JobId=12 Prioritee=5", 2, "did you mean Priority?"),
    ("ccontrol update JobId=12 TimeLimit=x", 2, "invalid time"),
    ("ccontrol update JobId=12", 2, "nothing to change"),
    ("ccontrol update NodeName=n1 State=drain", 2, "needs a reason"),
    ("ccontrol update NodeName=n1 State=drian Reason=x", 2, "did you mean drain?"),
    ("ccontrol update Foo=1", 2, "neither a job nor a node"),
    ("ccontrol show hostnames", 2, "no list given"),
    ("ccontrol show hostnames n]1[", 2, "invalid node list"),
    ("ccontrol config check missing.toml", 2, "no configuration file"),
    ("cwait", 2, "no job given"),
    ("cwait 12_3", 2, "whole jobs"),
    ("cwait --timeout x 12", 2, "seconds above 0"),
    ("cwhy", 2, "give one job"),
    ("cwhy 12_[1-3]", 2, "one array task"),
    ("crun", 2, "no command given"),
    ("crun --frob true", 2, "unknown option"),
    ("crun --pty bash", 2, "terminal"),
    ("crun --rendezvous mpi true", 2, "unknown rendezvous"),
    ("crane", 2, "no command given"),
    ("crane upp", 2, "did you mean up?"),
    ("crane up --nodes 0", 2, "above 0"),
    ("crane up --nodes 600", 2, "at most"),
    ("crane up --gres gpu:x:y:z", 2, "invalid generic resource"),
    ("crane up --policy lottery", 2, "unknown policy"),
]


def run(line: str) -> int:
    command, *arguments = line.split(" ")
    return importlib.import_module(f"cli.{command}").main(arguments)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with scripts of every bad kind."""
    (tmp_path / "script.sh").write_text("#!/bin/sh\ntrue\n")
    (tmp_path / "nobang.sh").write_text("true\n")
    (tmp_path / "binary.sh").write_bytes(b"#!\x7fELF\0\0\1")
    (tmp_path / "empty.sh").write_text("\n")
    (tmp_path / "large.sh").write_text("#!/bin/sh\n" + "#" * (4 << 20))
    (tmp_path / "directive.sh").write_text("#!/bin/sh\n#SBATCH --tiem=5\ntrue\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "status", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input_is_refused_before_anything_is_sent(cluster, place, capsys, line, status, words):
    found = run(line)

    out, err = capsys.readouterr()
    assert (found, out) == (status, "")
    name = line.split(" ")[0]
    lines = err.splitlines()
    assert lines[0].startswith(f"{name}: error: ")
    assert words in err
    assert all(text.startswith(f"{name}: ") for text in lines)
    assert len(lines) <= 2
    assert cluster.requests == []


def test_no_controller_tells_what_was_tried_and_how_to_start_one(
    controller, place, monkeypatch, capsys
):
    monkeypatch.setenv("CRANE_SOCKET", str(place / "none"))

    assert run("cqueue") == 3

    err = capsys.readouterr().err
    assert f"{place / 'none'} (CRANE_SOCKET): no such socket" in err
    assert "crane up" in err


def test_nothing_said_tries_the_usual_places(controller, place, monkeypatch, capsys):
    monkeypatch.delenv("CRANE_SOCKET")
    monkeypatch.setenv("HOME", str(place))

    assert run("cqueue") == 3

    err = capsys.readouterr().err
    assert "/run/crane/cranectld.sock (this host's controller)" in err
    assert f"{place}/.crane/dev/cranectld.sock (development cluster)" in err


def test_a_refusal_is_told_with_its_hint(cluster, place, capsys):
    cluster.answers["SubmitJobs"] = CraneError(
        ErrorCode.UNKNOWN_PARTITION, "there is no partition 'mian'", "did you mean main?"
    )

    assert run("csub --wrap true -p mian") == 4

    assert capsys.readouterr() == (
        "",
        "csub: error: there is no partition 'mian'\ncsub: hint: did you mean main?\n",
    )


def test_another_users_job_fails_with_its_id(cluster, capsys):
    reply = type(cluster.answers["CancelJobs"])()
    reply.results.add(subject="12")
    reply.results.add(subject="13", error={"code": 3, "message": "not permitted"})
    cluster.answers["CancelJobs"] = reply

    assert run("ccancel 12 13") == 4

    assert capsys.readouterr() == ("", "ccancel: error: 13: not permitted\n")


def test_a_script_from_standard_input(cluster, place, capsys, monkeypatch):
    read, write = os.pipe()
    os.write(write, b"#!/bin/sh\n#CRANE -J piped\ntrue\n")
    os.close(write)
    before = os.dup(0)
    os.dup2(read, 0)
    try:
        assert run("csub --parsable") == 0
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(read)

    assert capsys.readouterr().out == "200\n"
    (request,) = cluster.asked("SubmitJobs")
    assert (request.jobs[0].name, request.jobs[0].command) == ("piped", "(stdin)")


def test_a_job_travels_as_it_was_described(cluster, place, capsys, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    monkeypatch.setenv("MY_OWN", "x=y")

    assert run("csub -n 4 -c 0.5 --mem 2G -a 0-9%2 -d afterok:7 -t 90 --hold script.sh a b") == 0

    assert capsys.readouterr() == ("Submitted batch job 200\n", "")
    (request,) = cluster.asked("SubmitJobs")
    (job,), (spec,) = request.jobs, request.specs
    assert (job.name, list(job.args)) == ("script.sh", ["a", "b"])
    assert request.blobs[job.script - 1] == b"#!/bin/sh\ntrue\n"
    assert b"MY_OWN=x=y" in request.blobs[job.environment - 1].split(b"\0")
    assert (spec.components[0].ntasks, spec.components[0].cpus_per_task) == (4, 500)
    assert (spec.components[0].mem_per_node, spec.time_limit, spec.hold) == (2048, 5400, True)
    assert list(spec.partitions) == ["gpu"]
    assert (job.array.ranges[0].last, job.array.limit) == (9, 2)
    assert (job.dependency.terms[0].kind, job.dependency.terms[0].job_id) == (3, 7)
    assert not spec.HasField("requeue")


def test_a_dry_run_submits_nothing(cluster, place, capsys):
    assert run("csub --dry-run --wrap true") == 0

    (request,) = cluster.asked("SubmitJobs")
    assert request.dry_run
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "csub: the job would be accepted: partition main, 1 node, 1 CPU per task,"
        " time limit 1:00:00\n"
    )


def test_a_dry_run_says_what_was_asked_for(cluster, place, capsys):
    line = (
        "csub --dry-run -p gpu,main -N 2-4 -n 8 -c 2 --mem 4G --gres gpu:a100:1 -t 90 --wrap true"
    )

    assert run(line) == 0

    assert capsys.readouterr().err.endswith(
        "partition gpu,main, 2-4 nodes, 8 tasks, 2 CPU per task, 4G per node,"
        " gpu:a100:1 per node, time limit 1:30:00\n"
    )


def test_no_script_at_a_terminal_is_an_error(cluster, place, capsys, monkeypatch):
    leader, follower = os.openpty()
    before = os.dup(0)
    os.dup2(follower, 0)
    try:
        assert run("csub") == 2
    finally:
        os.dup2(before, 0)
        for fd in (before, leader, follower):
            os.close(fd)
    assert "no script given" in capsys.readouterr().err


def test_a_question_before_filters_cancel_many(cluster, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run("ccancel -n sweep") == 1
    assert cluster.asked("CancelJobs") == []

    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run("ccancel -n sweep") == 0
    (request,) = cluster.asked("CancelJobs")
    assert list(request.selector.names) == ["sweep"]
    assert 5 not in list(request.selector.states)
