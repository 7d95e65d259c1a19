"""Arrays: their tasks' variables and files, the limit, selectors, and how they end."""

from __future__ import annotations

from collections import Counter

from crane.client.model import JobEvent
from crane.states import JobState


def test_every_index_runs_once_with_its_own_variables_and_file(cluster):
    body = "#!/bin/sh\necho $SLURM_ARRAY_TASK_ID $CRANE_ARRAY_JOB_ID $SLURM_ARRAY_TASK_COUNT "
    body += "$SLURM_ARRAY_TASK_MIN-$SLURM_ARRAY_TASK_MAX:$SLURM_ARRAY_TASK_STEP $SLURM_JOB_ID\n"
    cluster.file("job.sh", body)
    array = int(cluster.out("csub --parsable -a 1-3,7,20-24:2 job.sh"))
    done = cluster.wait(array)
    assert (done.state.name, done.task_states) == ("COMPLETED", {JobState.COMPLETED: 7})
    raw = set()
    for index in (1, 2, 3, 7, 20, 22, 24):
        words = cluster.read(f"crane-{array}_{index}.out").split()
        assert words[:3] == [str(index), str(array), "7"]
        assert words[3].startswith("1-24:")
        raw.add(words[4])
        assert cluster.state(f"{array}_{index}") == "COMPLETED"
    # each task has had a job id of its own
    assert len(raw) == 7


def test_no_more_tasks_run_at_a_time_than_the_limit_says(cluster):
    before = cluster.client.status().seq
    array = cluster.submit("true", array="0-11%2", output="/dev/null")
    cluster.wait(array)
    running, most, last = set(), 0, Counter()
    for event in cluster.client.events(before, timeout=60):
        if not isinstance(event, JobEvent) or event.array_job_id != array:
            continue
        if event.state is JobState.RUNNING:
            running.add(event.array_task)
        elif event.state.ended:
            running.discard(event.array_task)
            last[event.array_task] += 1
        most = max(most, len(running))
        if len(last) == 12:
            break
    assert most == 2
    assert last == Counter(range(12))


def test_what_waits_because_of_the_limit_says_so_and_the_limit_can_be_raised(cluster):
    array = cluster.submit(cluster.release_file("go"), array="0-5%1")
    cluster.becomes(f"{array}_0", "RUNNING")
    cluster.says(array, "JobArrayTaskLimit")
    shown = cluster.out(f"cqueue -h -j {array} -t pending -o %i|%r")
    assert shown == f"{array}_[1-5%1]|JobArrayTaskLimit\n"
    cluster.out(f"ccontrol update JobId={array} ArrayTaskThrottle=4")
    cluster.becomes(f"{array}_3", "RUNNING")
    assert cluster.state(f"{array}_4") == "PENDING"
    cluster.file("go", "")
    assert cluster.wait(array).task_states == {JobState.COMPLETED: 6}


def test_tasks_are_cancelled_one_by_one_and_by_ranges(cluster):
    array = cluster.submit(cluster.release_file("go"), array="0-9%3")
    cluster.becomes(f"{array}_2", "RUNNING")
    cluster.out(f"ccancel {array}_1 {array}_[5-7,9]")
    cluster.becomes(f"{array}_1", "CANCELLED")
    assert [cluster.state(f"{array}_{i}") for i in (5, 7, 9)] == ["CANCELLED"] * 3
    # the place of the one that was cancelled is taken by the next
    cluster.becomes(f"{array}_3", "RUNNING")
    cluster.file("go", "")
    done = cluster.wait(array)
    assert cluster.job(array).task_states == {JobState.COMPLETED: 5, JobState.CANCELLED: 5}
    assert done.exit_status == 1
    rows = cluster.out(f"cacct -n -P -X -j {array} -o jobid,state").splitlines()
    assert any(row.startswith(f"{array}_1|CANCELLED") for row in rows)
    assert f"{array}_4|COMPLETED" in rows


def test_an_array_ends_as_its_worst_task(cluster):
    array = cluster.submit("exit $(( CRANE_ARRAY_TASK_ID % 3 ))", array="0-5")
    assert cluster.run(f"cwait {array}").returncode == 2
    assert cluster.job(array).task_states == {JobState.COMPLETED: 2, JobState.FAILED: 4}
    assert [cluster.job(f"{array}_{i}").exit_code for i in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_whole_array_is_held_released_and_cancelled(cluster):
    array = cluster.submit("true", array="0-3", hold=True)
    cluster.says(array, "JobHeldUser")
    cluster.out(f"ccontrol release {array}_2")
    cluster.becomes(f"{array}_2", "COMPLETED")
    assert cluster.state(f"{array}_1") == "PENDING"
    cluster.out(f"ccontrol release {array}")
    assert cluster.wait(array).task_states == {JobState.COMPLETED: 4}
    other = cluster.submit("sleep 900", array="0-99%2")
    cluster.becomes(f"{other}_1", "RUNNING")
    cluster.out(f"ccancel {other}")
    cluster.wait(other)
    assert cluster.job(other).task_states == {JobState.CANCELLED: 100}


def test_a_task_of_an_array_runs_again_when_it_is_requeued(cluster):
    body = "echo $CRANE_ARRAY_TASK_ID.$CRANE_RESTART_COUNT >> runs; [ -e go ] || sleep 900"
    array = cluster.submit(body, array="3-4")
    cluster.until_lines("runs", 2)
    cluster.file("go", "")
    cluster.out(f"ccontrol requeue {array}_4")
    cluster.until_lines("runs", 3)
    cluster.out(f"ccancel {array}_3")
    cluster.wait(array)
    assert sorted(cluster.lines("runs")) == ["3.0", "4.0", "4.1"]
    assert cluster.job(array).task_states == {JobState.COMPLETED: 1, JobState.CANCELLED: 1}


def test_a_million_tasks_are_one_record(cluster):
    array = cluster.submit("true", array="0-999999%3", hold=True)
    shown = cluster.out(f"cqueue -h -j {array} -o %i|%T")
    assert shown == f"{array}_[0-999999%3]|PENDING\n"
    cluster.out(f"ccancel {array}_[10-999999] {array}")
    assert cluster.job(array).task_states == {JobState.CANCELLED: 1_000_000}
