"""Commands agree with each other, at once: what was acknowledged is seen, what ended is recorded."""

from __future__ import annotations

import json
import time


def test_an_id_is_seen_by_every_command_as_soon_as_it_is_printed(cluster):
    for _ in range(5):
        job = int(cluster.out(["csub", "--parsable", "-J", "seen", "--wrap", "exit 0"]))
        assert cluster.out(f"cqueue -h -t all -j {job} -o %i|%j") == f"{job}|seen\n"
        assert cluster.out(f"cacct -n -P -X -j {job} -o jobid,jobname") == f"{job}|seen\n"
        assert f"JobId={job}" in cluster.out(f"ccontrol show job {job}")
        assert str(job) in cluster.out(f"cwhy {job}")


def test_a_job_never_vanishes_between_its_end_and_its_record(cluster):
    jobs = [cluster.submit(output="/dev/null") for _ in range(20)]
    missing, left = [], set(jobs)
    end = time.monotonic() + 60
    while left and time.monotonic() < end:
        rows = {job.job_id: job for job in cluster.client.jobs(jobs)}
        past = {job.job_id: job for job in cluster.client.history(jobs)}
        missing += [job for job in jobs if job not in rows or job not in past]
        left = {job for job in jobs if not rows[job].ended}
        # what the queue says has ended, the record does not deny later
        assert all(past[job].ended for job in jobs if rows[job].ended)
    assert (missing, left) == ([], set())


def test_columns_filters_and_order_are_slurms(cluster):
    one = cluster.submit("true", hold=True, job_name="one", comment="k v", account="lab", qos="q")
    two = cluster.submit(cluster.release_file("go"), job_name="two", nodes=2, time="1:30:00")
    cluster.becomes(two, "RUNNING")
    text = cluster.out("cqueue -S i -h -o %i|%j|%t|%T|%D|%R|%l|%k|%a|%q|%%")
    assert text.splitlines() == [
        f"{one}|one|PD|PENDING|1|(JobHeldUser)|10:00|k v|lab|q|%",
        f"{two}|two|R|RUNNING|2|n[1-2]|1:30:00|(null)|(null)|(null)|%",
    ]
    assert cluster.out("cqueue -h -t pd -o %i") == f"{one}\n"
    assert cluster.out("cqueue -h -n two -o %i") == f"{two}\n"
    assert cluster.out("cqueue -h -w n2 -o %i") == f"{two}\n"
    assert cluster.out("cqueue -h -A lab -o %i") == f"{one}\n"
    assert cluster.out("cqueue -h -p short -o %i") == ""
    found = json.loads(cluster.out("cqueue --json"))
    assert {job["job_id"] for job in found["jobs"]} == {one, two}
    assert cluster.out("cqueue -h -S -i -o %i").split() == [str(two), str(one)]
    cluster.file("go", "")
    cluster.wait(two)
    assert cluster.out("cqueue -h -o %i") == f"{one}\n"


def test_cinfo_shows_nodes_as_they_are_used(cluster):
    job = cluster.submit(cluster.release_file("go"), nodelist="n2", cpus_per_task=2)
    cluster.becomes(job, "RUNNING")
    rows = cluster.out("cinfo -h -N -p main -o %N|%t|%C").splitlines()
    assert rows == ["n1|idle|0/4/0/4", "n2|mix|2/2/0/4", "n3|idle|0/4/0/4"]
    assert f"JobId={job}" in cluster.out(f"ccontrol -o show job {job}")
    assert "NodeName=n2" in cluster.out("ccontrol show node n2")
    cluster.file("go", "")


def test_jobs_are_chosen_by_reservation_wckey_and_licence(cluster):
    night = int(cluster.out("csub --parsable -H --wckey=w1 --reservation=night --wrap true"))
    lab = int(cluster.out("csub --parsable -H --wckey=w2 -L matlab:2 --wrap true"))
    for options, ids in {
        "-R night": [night], "-L matlab,other": [lab], "--wckey=w1,w2": [night, lab],
        "--wckey=w1 -L matlab": [],
    }.items():  # fmt: skip
        found = cluster.out(f"cqueue -h -o %A -S A {options}").split()
        assert found == [str(job) for job in ids], options
    cluster.out("ccancel --wckey w2")
    assert [cluster.job(job).state.name for job in (night, lab)] == ["PENDING", "CANCELLED"]
    cluster.out("ccancel -R night")
    rows = cluster.out("cacct -a -X -n -P -o jobid -W w1,w2").split()
    assert rows == [str(night), str(lab)]


def test_cwhy_says_why_a_job_waits_in_numbers(cluster):
    blocker = cluster.submit(cluster.release_file("go"), exclusive=True, nodes=3, time="30:00")
    cluster.becomes(blocker, "RUNNING")
    job = cluster.submit("true", cpus_per_task=3, nodes=2)
    cluster.says(job, "Resources")
    said = cluster.out(f"cwhy {job}")
    assert "2 wanted, 0 free now, 3 usable, 3 match" in said
    assert "short of: " in said
    # who waits behind it waits for its turn, and is told the same numbers
    behind = cluster.submit("true", cpus_per_task=2)
    cluster.says(behind, "Priority")
    said = cluster.out(f"cwhy {behind}")
    assert "1 wanted, 0 free now, 3 usable, 3 match" in said
    assert "short of: " in said
    assert "jobs ahead: 1\n" in said
    # it is expected to start when the limit of the other one is over
    start = cluster.client.explain(job).planned_start
    limit = cluster.job(blocker).start_time + 1800 * 10**9
    assert abs(start - limit) < 5e9
    assert cluster.out(f"cqueue --start -h -j {job} -o %S").strip() not in ("", "N/A")
    cluster.file("go", "")
    cluster.wait(job, behind)


def test_a_dry_run_changes_nothing(cluster):
    before = cluster.client.status().seq
    done = cluster.run("csub --dry-run -N 2 --wrap true")
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 node" in done.stderr
    assert cluster.run("csub --dry-run -N 9 --wrap true").returncode == 4
    assert cluster.client.status().seq == before


def test_events_can_be_resumed_where_one_stopped(cluster):
    before = cluster.client.status().seq
    jobs = [cluster.submit(output="/dev/null") for _ in range(3)]
    cluster.wait(*jobs)
    seen, stream = [], cluster.client.events(before, jobs=jobs, timeout=60)
    for event in stream:
        seen.append((event.job_id, event.state.name))
        if len(seen) == 4:
            break
    for later in cluster.client.events(event.seq, jobs=jobs, timeout=60):
        seen.append((later.job_id, later.state.name))
        if sum(state == "COMPLETED" for _, state in seen) == 3:
            break
    for job in jobs:
        states = [state for number, state in seen if number == job]
        assert states in (["RUNNING", "COMPLETED"], ["PENDING", "RUNNING", "COMPLETED"])


def test_csub_waits_and_cwait_takes_several(cluster):
    good = cluster.submit("exit 0")
    bad = cluster.submit("exit 7")
    assert cluster.run(f"cwait {good} {bad}").returncode == 7
    held = cluster.submit("true", hold=True)
    assert cluster.run(f"cwait --timeout 0.2 {held}").returncode == 3


def test_cwhy_names_what_would_start_a_job_sooner_and_it_does(cluster):
    blocker = cluster.submit(cluster.release_file("go"), exclusive=True, time="30:00")
    cluster.becomes(blocker, "RUNNING")
    wide = cluster.submit("true", exclusive=True, nodes=3)
    cluster.says(wide, "Resources")
    behind = cluster.submit("true", time="2:00:00")
    cluster.says(behind, "Priority")
    assert "sooner with --nodes=2: by " in cluster.out(f"cwhy --sooner {wide}")
    (remedy,) = cluster.client.explain(behind, sooner=True).remedies
    assert 0 < remedy.time_limit <= 1800
    cluster.out(f"ccontrol update JobId={behind} TimeLimit={remedy.time_limit // 60}")
    cluster.wait(behind)
    assert cluster.job(wide).state.name == "PENDING", "the job ahead of it still waits"
    cluster.file("go", "")
