"""What is named and is not there is said, and an ended array is told by its tasks."""

from __future__ import annotations

import importlib

import pytest

from crane.v1 import control_pb2 as pb


def run(line: str) -> int:
    command, *arguments = line.split(" ")
    return importlib.import_module(f"cli.{command}").main(arguments)


@pytest.mark.parametrize(
    ("line", "method"),
    [("cqueue -h -j 101,999", "ListJobs"), ("cacct -n -j 90,999", "ListHistory")],
)
def test_an_unknown_job_beside_a_known_one_is_told(cluster, capsys, line, method):
    assert run(line) == 4

    out, err = capsys.readouterr()
    assert out.lstrip().startswith(("101", "90"))
    assert f"{line.split(' ')[0]}: error: there is no job 999" in err
    assert "job 101" not in err
    assert "job 90" not in err


def test_known_jobs_are_no_error(cluster, capsys):
    assert run("cqueue -h -j 101,102_2,105") == 0
    assert run("cacct -n -j 90") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("line", ["cqueue -j 999 -t pending", "cacct -j 999 -S 2027-01-01"])
def test_with_filters_beside_the_id_nothing_is_missing(cluster, capsys, line):
    cluster.answers["ListJobs"] = pb.ListJobsReply(seq=1)
    cluster.answers["ListHistory"] = pb.ListHistoryReply(seq=1)

    assert run(line) == 0

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cinfo -p mian", "there is no partition 'mian'"),
        ("cinfo -n n9", "there is no node 'n9'"),
        ("cqueue -p mian", "did you mean main?"),
        ("cqueue -w n9", "there is no node 'n9'"),
        ("ccancel -p mian", "there is no partition 'mian'"),
    ],
)
def test_unknown_places_are_errors_and_not_empty_tables(cluster, capsys, line, words):
    everything = {
        "ListNodes": cluster.answers["ListNodes"],
        "ListPartitions": cluster.answers["ListPartitions"],
    }

    def unless_named(method):
        def answer(request):
            whole = everything[method]
            return type(whole)(seq=1) if request.names and method == "ListNodes" else (
                type(whole)() if request.names else whole
            )  # fmt: skip

        return answer

    cluster.answers |= {method: unless_named(method) for method in everything}
    cluster.answers["ListJobs"] = pb.ListJobsReply(seq=1)
    cluster.answers["CancelJobs"] = pb.ChangeReply()

    assert run(line) == 4

    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def _array(states: dict[int, int], rows: int) -> list[pb.JobInfo]:
    own = pb.JobInfo(
        job_id=7, array_job_id=7, array_task=-1, name="a", state=6 if 6 in states else 5,
        task_states=states, spec={"components": [{}]},
    )  # fmt: skip
    tasks = [
        pb.JobInfo(
            job_id=8 + index, array_job_id=7, array_task=index, name="a", state=5,
            spec={"components": [{}]},
        )
        for index in range(rows)
    ]  # fmt: skip
    return [own, *tasks]


@pytest.mark.parametrize(
    ("states", "rows", "line", "shown"),
    [
        ({5: 2}, 2, "cacct -a -n -P -o jobid", ["7_0", "7_1"]),
        ({5: 2}, 2, "cacct -a -n -P -o jobid -j 7", ["7_0", "7_1"]),
        ({5: 2, 6: 3}, 2, "cacct -a -n -P -o jobid", ["7", "7_0", "7_1"]),
        ({6: 5}, 0, "cacct -a -n -P -o jobid", ["7"]),
        ({5: 9}, 2, "cacct -a -n -P -o jobid -N n1", ["7_0", "7_1"]),
    ],
    ids=["all ran", "by id", "some never started", "none started", "filtered"],
)
def test_an_ended_array_is_told_by_its_tasks(cluster, capsys, states, rows, line, shown):
    cluster.answers["ListHistory"] = pb.ListHistoryReply(jobs=_array(states, rows), seq=7)

    assert run(line) == 0

    assert capsys.readouterr().out.split() == shown
