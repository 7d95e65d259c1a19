"""Dependencies of every kind, on jobs that wait, run and have long ended."""

from __future__ import annotations

import pytest

OUTCOMES = {"good": "exit 0", "bad": "exit 1"}

# kind, how the first job ends, what becomes of the one that depends on it
TABLE = [
    ("afterany", "good", "COMPLETED"),
    ("afterany", "bad", "COMPLETED"),
    ("afterok", "good", "COMPLETED"),
    ("afterok", "bad", "DependencyNeverSatisfied"),
    ("afternotok", "bad", "COMPLETED"),
    ("afternotok", "good", "DependencyNeverSatisfied"),
    ("after", "bad", "COMPLETED"),
]


@pytest.mark.parametrize("ended", [False, True], ids=["before", "afterwards"])
def test_what_becomes_of_a_job_follows_from_the_one_it_depends_on(cluster, ended):
    """given jobs that end well or badly, when others depend on them (before or after the end)"""
    wait = cluster.release_file("go")
    first = {name: cluster.submit(f"{wait}; {body}") for name, body in OUTCOMES.items()}
    if ended:
        cluster.file("go", "")
        cluster.wait(*first.values())
    jobs = [cluster.submit(dependency=f"{kind}:{first[how]}") for kind, how, _ in TABLE]
    if not ended:
        for job in jobs[:-1]:
            cluster.says(job, "Dependency")
        cluster.file("go", "")
    for job, (kind, how, becomes) in zip(jobs, TABLE, strict=True):
        if becomes == "COMPLETED":
            assert cluster.wait(job).state.name == "COMPLETED", (kind, how)
            began = cluster.job(job).start_time
            if kind != "after":
                assert began >= cluster.job(first[how]).end_time
        else:
            cluster.says(job, becomes)
            assert cluster.state(job) == "PENDING", (kind, how)


def test_all_of_several_or_any_of_them(cluster):
    good, bad = cluster.submit("exit 0"), cluster.submit("exit 1")
    held = cluster.submit("true", hold=True)
    both = cluster.submit(dependency=f"afterok:{good},afternotok:{bad}")
    neither = cluster.submit(dependency=f"afterok:{good}:{bad}")
    waits = cluster.submit(dependency=f"afterok:{good},afterany:{held}")
    either = cluster.submit(dependency=f"afterok:{bad}?afterany:{held}?afterok:{good}")
    assert [d.state.name for d in cluster.wait(both, either)] == ["COMPLETED"] * 2
    cluster.says(neither, "DependencyNeverSatisfied")
    assert cluster.reason(waits) == "Dependency"
    cluster.out(f"ccancel {held}")
    assert cluster.wait(waits).state.name == "COMPLETED"


def test_after_counts_from_the_start_and_may_be_delayed(cluster):
    first = cluster.submit(cluster.release_file("go"))
    at_once = cluster.submit(dependency=f"after:{first}")
    later = cluster.submit(dependency=f"after:{first}+5")
    assert cluster.wait(at_once).state.name == "COMPLETED"
    assert cluster.state(first) == "RUNNING"
    found = cluster.job(later)
    assert (found.state.name, found.reason.word) == ("PENDING", "BeginTime")
    assert 299e9 < found.eligible_time - cluster.job(first).start_time < 301e9
    cluster.file("go", "")


def test_aftercorr_lets_go_task_by_task(cluster):
    body = "[ $CRANE_ARRAY_TASK_ID = 1 ] && exit 1; [ $CRANE_ARRAY_TASK_ID = 2 ] || exit 0; "
    first = cluster.submit(body + cluster.release_file("go"), array="0-3")
    second = cluster.submit("true", array="0-3", dependency=f"aftercorr:{first}")
    for index in (0, 3):
        cluster.becomes(f"{second}_{index}", "COMPLETED")
    assert cluster.state(f"{second}_2") == "PENDING"
    cluster.file("go", "")
    cluster.becomes(f"{second}_2", "COMPLETED")
    assert cluster.state(f"{second}_1") == "PENDING"
    cluster.says(f"{second}_1", "DependencyNeverSatisfied")


def test_a_job_may_wait_for_one_task_or_all_of_an_array(cluster):
    body = f"[ $CRANE_ARRAY_TASK_ID = 0 ] || {cluster.release_file('go')}"
    array = cluster.submit(body, array="0-2")
    one = cluster.submit(dependency=f"afterok:{array}_0")
    whole = cluster.submit(dependency=f"afterok:{array}")
    assert cluster.wait(one).state.name == "COMPLETED"
    assert cluster.reason(whole) == "Dependency"
    cluster.file("go", "")
    assert cluster.wait(whole).state.name == "COMPLETED"


def test_singletons_of_a_name_run_one_after_another(cluster):
    body = "echo begin >> log; sleep 0.1; echo end >> log"
    jobs = [cluster.submit(body, job_name="only", dependency="singleton") for _ in range(3)]
    other = cluster.submit("true", job_name="other", dependency="singleton")
    cluster.wait(*jobs, other)
    assert cluster.lines("log") == ["begin", "end"] * 3


def test_a_cancelled_job_counts_as_failed(cluster):
    held = cluster.submit("true", hold=True)
    ok, notok = (cluster.submit(dependency=f"{kind}:{held}") for kind in ("afterok", "afternotok"))
    cluster.out(f"ccancel {held}")
    assert cluster.wait(notok).state.name == "COMPLETED"
    cluster.says(ok, "DependencyNeverSatisfied")
    # and another dependency helps
    cluster.out(f"ccontrol update JobId={ok} Dependency=afterany:{held}")
    assert cluster.wait(ok).state.name == "COMPLETED"


def test_a_dependency_on_a_job_that_never_was_is_refused(cluster):
    done = cluster.run("csub -d afterok:999999 --wrap true")
    assert (done.returncode, done.stdout) == (2, "")
    assert "999999" in done.stderr
