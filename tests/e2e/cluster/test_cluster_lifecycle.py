"""One job from submission to its record: files, environment, limits, ends of every kind."""

from __future__ import annotations

import os
import time

import pytest


def test_a_job_runs_once_on_the_first_node_and_is_recorded(cluster):
    done = cluster.finish(
        "echo $CRANE_JOB_ID $SLURMD_NODENAME $$; exit 0", nodes=2, job_name="first"
    )
    assert done.state.name == "COMPLETED"
    assert (done.exit_code, done.signal, done.attempt, done.restarts) == (0, 0, 1, 0)
    assert done.nodes == ("n1", "n2")
    assert done.submit_time <= done.start_time <= done.end_time <= time.time_ns()
    (line,) = cluster.output(done.job_id).splitlines()
    assert line.split()[:2] == [str(done.job_id), "n1"]
    (step,) = cluster.job(done.job_id).steps
    assert (step.step, step.state.name, step.exit_code) == (-1, "ENDED", 0)
    assert step.cpu_us > 0
    # and what the record says is there at once, in the tables too
    row = cluster.out(f"cacct -n -P -X -j {done.job_id} -o jobid,jobname,state,exitcode,nodelist")
    assert row == f"{done.job_id}|first|COMPLETED|0:0|n[1-2]\n"


@pytest.mark.parametrize(
    ("body", "state", "reason", "code", "signal", "shown"),
    [
        ("exit 3", "FAILED", "NonZeroExitCode", 3, 0, "3:0"),
        ("kill -SEGV $$", "FAILED", "RaisedSignal", 0, 11, "0:11"),
        ("echo '#!/no/such/program' > p; chmod +x p; ./p; exit 9", "FAILED", "NonZeroExitCode", 9, 0, "9:0"),
    ],
)  # fmt: skip
def test_how_a_script_ended_is_told_by_every_command(
    cluster, body, state, reason, code, signal, shown
):
    done = cluster.run(["csub", "--wait", "--parsable", "--wrap", body])
    job = int(done.stdout)
    found = cluster.job(job)
    assert (found.state.name, found.reason.word) == (state, reason)
    assert (found.exit_code, found.signal) == (code, signal)
    assert done.returncode == (128 + signal if signal else code)
    assert cluster.run(f"cwait {job}").returncode == done.returncode
    row = cluster.out(f"cacct -n -P -X -j {job} -o state,exitcode")
    assert row == f"{state}|{shown}\n"


def test_a_script_whose_interpreter_is_missing_is_told_as_a_launch_failure(cluster):
    job = cluster.client.submit(content=b"#!/no/such/shell\n", chdir=cluster.work)
    done = cluster.wait(job)
    assert (done.state.name, done.reason.word) == ("FAILED", "JobLaunchFailure")
    assert "/no/such/shell" in done.reason_text


def test_names_of_output_files_are_filled_in(cluster):
    cluster.file("job.sh", "#!/bin/sh\necho out; echo err >&2\n")
    text = "csub --parsable -J lab -o %x-%5j-%A-%u-%N-%n-%t-%%.out -e %x.%J.err job.sh"
    job = int(cluster.out(text))
    assert cluster.wait(job).exit_status == 0
    user = cluster.job(job).user
    files = {name for name in os.listdir(cluster.work) if name != "job.sh"}
    assert files == {f"lab-{job:05}-{job}-{user}-n1-0-0-%.out", f"lab.{job}.err"}
    assert cluster.read(f"lab.{job}.err") == "err\n"


def test_output_goes_to_the_default_file_in_the_directory_given(cluster):
    os.mkdir(cluster.file("sub"))
    job = int(cluster.out(["csub", "--parsable", "-D", "sub", "--wrap", "pwd; pwd >&2"]))
    cluster.wait(job)
    assert cluster.read(f"sub/crane-{job}.out") == f"{cluster.file('sub')}\n" * 2


def test_open_mode_appends_or_truncates(cluster):
    for word, mode in (("one", ""), ("two", "append"), ("three", "append"), ("four", "truncate")):
        cluster.finish(f"echo {word}", output="log", open_mode=mode or None)
        if word == "three":
            assert cluster.read("log") == "one\ntwo\nthree\n"
    assert cluster.read("log") == "four\n"


def test_standard_input_comes_from_a_file_and_is_empty_otherwise(cluster):
    cluster.file("data", "a\nb\n")
    assert cluster.output(cluster.finish("cat; echo end", input="data").job_id) == "a\nb\nend\n"
    assert cluster.output(cluster.finish("cat; echo end").job_id) == "end\n"


def test_a_script_on_standard_input_gets_its_directives_and_arguments(cluster):
    script = "#!/bin/sh\n#SBATCH -J piped -o piped.out\n#CRANE -n 2\necho $#:$1:$2 $SLURM_NTASKS\n"
    job = int(cluster.out(["csub", "--parsable"], stdin=script))
    done = cluster.wait(job)
    assert done.name == "piped"
    cluster.file("job.sh", script)
    again = cluster.out(["csub", "--parsable", "job.sh", "a b", "-n"])
    cluster.wait(int(again))
    assert cluster.read("piped.out") == "2:a b:-n 2\n"


def test_command_line_goes_over_variables_over_directives(cluster):
    cluster.file("job.sh", "#!/bin/sh\n#SBATCH --comment=script -J script --nice=1\ntrue\n")
    env = {"SBATCH_COMMENT": "variable", "SBATCH_JOB_NAME": "variable"}
    job = int(cluster.out("csub --parsable -o /dev/null -J line job.sh", **env))
    found = cluster.job(job)
    assert (found.name, found.spec.comment, found.spec.nice) == ("line", "variable", 1)


def test_what_is_exported_reaches_the_job(cluster):
    body = "echo ${MINE-unset} ${YOURS-unset} ${PATH:+path} ${HOME:+home} $SLURM_JOB_ID"
    env = {"MINE": "mine", "YOURS": "two words", "SLURM_JOB_ID": "77", "SLURM_TIME_FORMAT": "x"}
    expected = {
        "ALL": "mine two words path home",
        "NONE": "unset unset path home",
        "MINE,YOURS=changed": "mine changed path home",
        "ALL,MINE=other": "other two words path home",
    }
    for policy, words in expected.items():
        command = ["csub", "--parsable", "-o", "env.out", "--export", policy, "--wrap", body]
        job = int(cluster.out(command, **env))
        cluster.wait(job)
        assert cluster.read("env.out") == f"{words} {job}\n", policy


def test_the_job_finds_slurms_variables_and_their_twins(cluster):
    cluster.finish(
        "env", output="env", job_name="vars", ntasks=3, ntasks_per_node=2, cpus_per_task=2,
        nodes=2, mem="64M", comment="c",
    )  # fmt: skip
    env = dict(line.split("=", 1) for line in cluster.read("env").splitlines() if "=" in line)
    expected = {
        "JOB_NAME": "vars", "JOB_NUM_NODES": "2", "NNODES": "2", "NTASKS": "3", "NPROCS": "3",
        "JOB_NODELIST": "n[1-2]", "NTASKS_PER_NODE": "2", "TASKS_PER_NODE": "2,1",
        "CPUS_PER_TASK": "2", "MEM_PER_NODE": "64", "JOB_PARTITION": "main", "PROCID": "0",
        "LOCALID": "0", "NODEID": "0", "SUBMIT_DIR": cluster.work, "CLUSTER_NAME": "e2e",
        "RESTART_COUNT": "0", "JOB_UID": str(os.getuid()),
    }  # fmt: skip
    for prefix in ("SLURM_", "CRANE_"):
        found = {name: env.get(prefix + name) for name in expected}
        assert found == expected
    assert int(env["SLURM_JOB_END_TIME"]) - int(env["SLURM_JOB_START_TIME"]) == 600
    assert not {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"} & env.keys()


def test_the_job_knows_where_it_came_from_and_has_its_submitters_umask(cluster):
    os.mkdir(os.path.join(cluster.work, "elsewhere"))
    body = "umask; echo $SLURM_SUBMIT_DIR $SLURM_CPUS_PER_TASK; touch file; srun sh -c umask\n"
    body += "umask 007; srun sh -c umask"
    command = ["csub", "--parsable", "-D", "elsewhere", "-c", "1", "-o", "out", "--wrap", body]
    before = os.umask(0o027)
    try:
        job = int(cluster.out(command))
    finally:
        os.umask(before)
    assert cluster.wait(job).state.name == "COMPLETED"
    said = cluster.lines("elsewhere/out")
    assert said == ["0027", f"{cluster.work} 1", "0027", "0007"]
    for name in ("out", "file"):
        assert os.stat(os.path.join(cluster.work, "elsewhere", name)).st_mode & 0o777 == 0o640


def test_a_job_is_held_and_released(cluster):
    job = cluster.submit("echo ran", hold=True)
    cluster.says(job, "JobHeldUser")
    other = cluster.submit("true", begin="now+1hour")
    cluster.says(other, "BeginTime")
    cluster.out(f"ccontrol hold {other}")
    cluster.says(other, "JobHeldUser")
    cluster.out(f"ccontrol release {job}")
    assert cluster.wait(job).state.name == "COMPLETED"
    cluster.out(f"ccontrol release {other}")
    cluster.says(other, "BeginTime")
    # and an update lets it go at once
    cluster.out(f"ccontrol update JobId={other} StartTime=now Comment=early")
    done = cluster.wait(other)
    assert (done.state.name, done.spec.comment) == ("COMPLETED", "early")


def test_a_job_does_not_start_before_its_begin_time(cluster):
    begin = time.time() + 1.5
    done = cluster.finish("date +%s.%N", begin="now+2")
    assert float(cluster.output(done.job_id)) >= begin
    assert done.start_time >= done.eligible_time >= begin * 1e9


def test_the_time_limit_ends_even_what_ignores_sigterm(cluster):
    body = "trap 'echo term; exit 7' TERM; while :; do sleep 0.05; done"
    polite = cluster.submit(body, time="0:01", error="/dev/null")
    body = "trap '' TERM; (trap '' TERM HUP; setsid sleep 900) & sleep 900"
    deaf = cluster.submit(body, time="0:01")
    first, second = cluster.wait(polite, deaf)
    for done in (first, second):
        assert (done.state.name, done.reason.word) == ("TIMEOUT", "TimeLimit")
    assert cluster.output(polite) == "term\n"
    assert 1 <= (first.end_time - first.start_time) / 1e9 < 30
    assert second.signal == 9
    # the record comes after the grace time of a second
    assert (second.end_time - second.start_time) / 1e9 >= 2


def test_the_limit_of_a_running_job_can_be_changed(cluster):
    job = cluster.submit("sleep 900", time="1:00:00")
    cluster.becomes(job, "RUNNING")
    cluster.out(f"ccontrol update JobId={job} TimeLimit=0:01")
    assert cluster.wait(job).state.name == "TIMEOUT"


def test_a_warning_signal_comes_before_the_limit(cluster):
    body = "trap 'echo warned; exit 0' USR1; while :; do sleep 0.05; done"
    done = cluster.finish(body, time="1:00", signal="B:USR1@59")
    assert (done.state.name, cluster.output(done.job_id)) == ("COMPLETED", "warned\n")


def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(cluster):
    waiting = cluster.submit("true", hold=True)
    body = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    running = cluster.submit(body, error="/dev/null")
    cluster.becomes(running, "RUNNING")
    cluster.run(f"ccancel --signal USR2 {waiting}")
    assert cluster.state(waiting) == "PENDING"
    cluster.until_output(running, "up")
    cluster.out(f"ccancel {waiting} {running}")
    ended = cluster.wait(waiting, running)
    assert [(d.state.name, d.cancelled_by) for d in ended] == [("CANCELLED", os.getuid())] * 2
    assert cluster.output(running) == "up\nbye\n"
    assert ended[0].start_time == 0
    assert not os.path.exists(cluster.file(f"{waiting}.out"))
    again = cluster.run(f"ccancel {running}")
    assert again.returncode in (0, 4)


def test_a_signal_reaches_the_job_and_ends_nothing(cluster):
    body = "trap 'echo usr1; exit 4' USR1; echo up; while :; do sleep 0.05; done"
    job = cluster.submit(body, error="/dev/null")
    cluster.until_output(job, "up")
    cluster.out(f"ccancel --signal USR1 {job}")
    done = cluster.wait(job)
    assert (done.state.name, done.exit_code) == ("FAILED", 4)
    assert cluster.output(job) == "up\nusr1\n"


def test_a_running_and_an_ended_job_are_requeued(cluster):
    body = "echo $CRANE_RESTART_COUNT >> runs; [ -e go ] || sleep 900"
    job = cluster.submit(body)
    cluster.until_lines("runs", 1)
    cluster.file("go", "")
    cluster.out(f"ccontrol requeue {job}")
    cluster.until_lines("runs", 2)
    done = cluster.wait(job)
    assert (done.state.name, done.attempt, done.restarts) == ("COMPLETED", 2, 1)
    cluster.out(f"ccontrol requeuehold {job}")
    assert (cluster.state(job), cluster.reason(job)) == ("PENDING", "JobHeldUser")
    cluster.out(f"ccontrol release {job}")
    assert cluster.wait(job).attempt == 3
    assert cluster.lines("runs") == ["0", "1", "2"]


def test_too_much_memory_is_told_apart_from_other_ends(cluster):
    node = cluster.client.nodes(["n1"])[0]
    if node.cgroup == "none":
        pytest.skip("no writable cgroup with the memory controller on this host")
    body = "head -c 300M /dev/zero | tail -c 290M | wc -c"
    done = cluster.finish(f"exec python3 -c 'x = b\"x\" * (300 << 20)' || {body}", mem="48M")
    assert (done.state.name, done.reason.word) == ("OUT_OF_MEMORY", "OutOfMemory")
    assert cluster.finish(f"exec python3 -c 'x = b\"x\" * (300 << 20)' || {body}").exit_status == 0


def test_an_output_directory_that_went_away_is_told_with_its_name(cluster):
    os.mkdir(cluster.file("gone"))
    job = cluster.submit("true", output=cluster.file("gone/out"), hold=True)
    os.rmdir(cluster.file("gone"))
    cluster.out(f"ccontrol release {job}")
    done = cluster.wait(job)
    assert (done.state.name, done.reason.word) == ("FAILED", "JobLaunchFailure")
    assert cluster.file("gone") in done.reason_text


def test_a_batch_of_jobs_that_is_partly_wrong_is_taken_in_part(cluster):
    from crane.client.newjob import describe

    good = describe(content=b"#!/bin/sh\n", output="/dev/null", chdir=cluster.work)
    bad = describe(content=b"#!/bin/sh\n", partition="nowhere", chdir=cluster.work)
    first, second, third = cluster.client.submit_many([good, bad, good])
    assert second.code.name == "UNKNOWN_PARTITION"
    assert [job.state.name for job in cluster.wait(first, third)] == ["COMPLETED"] * 2
