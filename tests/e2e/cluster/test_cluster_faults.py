"""Daemons that are killed, silent or started twice, with jobs running: nothing is lost or repeated."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

SHORT = "heartbeat = 0.2\nnode = 1.0\nlease = 2.0\nkill_grace = 1\n"


def ran(cluster, name="ran"):
    """What the jobs said: one line per run."""
    return sorted(cluster.lines(name))


def test_jobs_survive_a_kill_of_the_controller_and_are_recorded(make_cluster):
    # given jobs that run and wait when the controller is killed
    cluster = make_cluster()
    body = f"echo $CRANE_JOB_ID.$CRANE_RESTART_COUNT >> ran; {cluster.release_file('go')}"
    running = [cluster.submit(body) for _ in range(4)]
    waiting = cluster.submit(body, dependency=f"afterok:{running[0]}")
    cluster.until_lines("ran", 4)
    cluster.kill("cranectld")
    refused = cluster.run("csub --wrap true")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "crane up" in refused.stderr
    # when they end while nobody is there to hear of it
    cluster.file("go", "")
    cluster.start_controller()
    # then each has run once and is recorded as it ended
    ended = cluster.wait(*running, waiting)
    assert [(d.state.name, d.attempt) for d in ended] == [("COMPLETED", 1)] * 5
    assert ran(cluster) == sorted(f"{job}.0" for job in (*running, waiting))
    rows = cluster.out("cacct -n -P -X -a -S 2020-01-01 -o state").split()
    assert rows == ["COMPLETED"] * 5


def test_events_and_waiting_go_on_over_a_restart_of_the_controller(make_cluster, kit):
    cluster = make_cluster()
    job = cluster.submit(cluster.release_file("go"))
    cluster.becomes(job, "RUNNING")
    waiting = subprocess.Popen(
        [os.path.join(os.path.dirname(sys.executable), "cwait"), str(job)],
        env=cluster.environment(),
        cwd=cluster.work,
    )
    kit.wait(lambda: cluster.client.status().figures.get("watchers"), "cwait to listen")
    seq = cluster.client.status().seq
    cluster.kill("cranectld")
    cluster.start_controller()
    cluster.file("go", "")
    events = cluster.client.events(seq, jobs=[job], timeout=60)
    assert next(e.state.name for e in events if e.state.ended) == "COMPLETED"
    assert waiting.wait(60) == 0


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_an_agent_adopts_its_jobs_when_it_is_back(make_cluster, kit, end):
    # given jobs on a node whose agent ends
    cluster = make_cluster()
    body = "echo $CRANE_JOB_ID >> ran; echo $$ > pid.$CRANE_JOB_ID; "
    first = cluster.submit(body + cluster.release_file("first"))
    second = cluster.submit(body + f"{cluster.release_file('second')}; exit 6")
    queued = [cluster.submit(body) for _ in range(8)]
    cluster.until_lines("ran", 2)
    getattr(cluster, end)("n1")
    # when one ends while it is away, and one later
    cluster.file("first", "")
    pid = cluster.read(f"pid.{first}").strip()
    kit.wait(lambda: not cluster.alive(pid), f"process {pid} to end")
    cluster.start_agent("n1")
    cluster.wait(first)
    assert cluster.state(second) == "RUNNING"
    cluster.file("second", "")
    # then both are recorded as they ended, and everything has run once
    ended = cluster.wait(first, second, *queued)
    assert [(d.state.name, d.exit_code, d.attempt) for d in ended] == [
        ("COMPLETED", 0, 1), ("FAILED", 6, 1), *[("COMPLETED", 0, 1)] * 8,
    ]  # fmt: skip
    assert ran(cluster) == sorted(map(str, (first, second, *queued)))


def test_the_launcher_may_be_killed_too(make_cluster):
    cluster = make_cluster()
    body = f"echo $CRANE_JOB_ID >> ran; {cluster.release_file('go')}"
    jobs = [cluster.submit(body) for _ in range(3)]
    cluster.until_lines("ran", 3)
    (launcher,) = [p for p in cluster.processes_of("n1") if "craned.exec" in cluster.words_of(p)
                   and cluster.parent_of(p) == cluster.running["n1"].pid]  # fmt: skip
    os.kill(launcher, 9)
    more = cluster.submit("echo $CRANE_JOB_ID >> ran")
    assert cluster.wait(more).state.name == "COMPLETED"
    cluster.file("go", "")
    assert [d.state.name for d in cluster.wait(*jobs)] == ["COMPLETED"] * 3
    assert ran(cluster) == sorted(map(str, (*jobs, more)))


def test_both_daemons_may_be_killed_at_once(make_cluster):
    cluster = make_cluster()
    body = f"echo $CRANE_JOB_ID >> ran; {cluster.release_file('go')}"
    jobs = [cluster.submit(body) for _ in range(6)]
    cluster.until_lines("ran", 4)
    cluster.kill("cranectld")
    cluster.kill("n1")
    cluster.file("go", "")
    cluster.start_controller()
    cluster.start_agent("n1")
    assert [(d.state.name, d.attempt) for d in cluster.wait(*jobs)] == [("COMPLETED", 1)] * 6
    assert ran(cluster) == sorted(map(str, jobs))


def lose_node(cluster, name):
    """Kill an agent and everything below it, as if the host had lost its power."""
    cluster.kill(name)
    for pid in cluster.processes_of(name):
        if "craned.exec" in cluster.words_of(pid):
            os.kill(pid, 9)
    for pid in cluster.processes_of(name):
        os.kill(pid, 9)


def test_a_silent_node_goes_down_and_its_jobs_wait_for_certainty(make_cluster):
    # given a cluster that lets jobs go on when contact is lost
    cluster = make_cluster(("n1", "n2"), timeouts=SHORT)
    body = f"echo $CRANE_JOB_ID.$CRANE_RESTART_COUNT >> ran; {cluster.release_file('go')}"
    again = cluster.submit(body, nodelist="n1", requeue=True)
    never = cluster.submit(body, nodelist="n1", no_requeue=True)
    cluster.until_lines("ran", 2)
    lose_node(cluster, "n1")
    cluster.until_node("n1", "down")
    # then the jobs are not given up: they may still be alive there
    assert [cluster.state(job) for job in (again, never)] == ["RUNNING"] * 2
    assert cluster.finish("true", nodes=1).nodes == ("n2",)
    # until an operator says that the node is off
    cluster.out(["ccontrol", "update", "NodeName=n1", "State=absent", "Reason=power"])
    done = cluster.wait(never)
    assert (done.state.name, done.reason.word) == ("NODE_FAIL", "NodeFail")
    cluster.becomes(again, "PENDING")
    # and when the node is back, the one that may is run again there
    cluster.start_agent("n1")
    cluster.run("ccontrol update NodeName=n1 State=resume")
    cluster.file("go", "")
    done = cluster.wait(again)
    assert (done.state.name, done.attempt, done.restarts) == ("COMPLETED", 2, 1)
    assert ran(cluster) == sorted([f"{again}.0", f"{never}.0", f"{again}.1"])


def test_where_agents_kill_on_lost_contact_jobs_are_run_again_elsewhere(make_cluster):
    cluster = make_cluster(("n1", "n2"), timeouts=SHORT + 'lost_contact = "kill"\n')
    body = f"echo $CRANE_JOB_ID.$CRANE_RESTART_COUNT >> ran; {cluster.release_file('go')}"
    job = cluster.submit(body, exclude="n3", exclusive=True)
    cluster.until_lines("ran", 1)
    assert cluster.job(job).nodes == ("n1",)
    lose_node(cluster, "n1")
    cluster.until_lines("ran", 2)
    assert cluster.job(job).nodes == ("n2",)
    cluster.file("go", "")
    done = cluster.wait(job)
    assert (done.state.name, done.attempt) == ("COMPLETED", 2)
    # and the node is of use again when it is back
    cluster.start_agent("n1")
    cluster.until_node("n1", "idle")
    assert ran(cluster) == [f"{job}.0", f"{job}.1"]


def test_a_shim_that_is_killed_is_told_as_a_node_failure(make_cluster):
    cluster = make_cluster()
    body = "echo $$ >> ran; exec sleep 900"
    job = cluster.submit(body, no_requeue=True)
    (pid,) = cluster.until_lines("ran", 1)
    os.kill(cluster.parent_of(int(pid)), 9)
    done = cluster.wait(job)
    assert done.state.name == "NODE_FAIL"
    assert "killed" in done.reason_text
    assert not cluster.alive(pid)


def test_the_configuration_is_changed_without_a_restart(make_cluster):
    cluster = make_cluster(("n1", "n2"))
    pid = cluster.client.status().pid
    job = cluster.submit(cluster.release_file("go"))
    cluster.becomes(job, "RUNNING")
    refused = cluster.run("csub -p night --wrap true")
    assert refused.returncode == 4
    night = '[[partitions]]\nname = "main"\nnodes = "ALL"\ndefault = true\n'
    cluster.configure(night + '[[partitions]]\nname = "night"\nnodes = "n2"\nmax_time = "1:00"\n')
    assert "night" in cluster.out("ccontrol reconfigure")
    assert cluster.wait(cluster.submit("true", partition="night", time="0:30")).nodes == ("n2",)
    # a mistake in the file changes nothing, and says where it is
    cluster.configure(night.replace("nodes", "nodse"))
    wrong = cluster.run("ccontrol reconfigure")
    assert (wrong.returncode, wrong.stdout) == (4, "")
    assert "did you mean nodes" in wrong.stderr
    assert [p.name for p in cluster.client.partitions()] == ["main", "night"]
    checked = cluster.run(["ccontrol", "config", "check", cluster.path("crane.toml")])
    assert (checked.returncode, "nodse" in checked.stderr) == (2, True)
    cluster.configure(night)
    cluster.out("ccontrol reconfigure")
    assert cluster.client.status().pid == pid
    cluster.file("go", "")
    assert cluster.wait(job).state.name == "COMPLETED"


def refused_start(cluster) -> tuple[int, str]:
    """What a controller says that cannot start."""
    done = subprocess.run(
        [sys.executable, "-m", "cranectld", "--config", cluster.path("crane.toml")],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_store_is_used_by_one_controller_and_only_if_it_is_whole(make_cluster):
    cluster = make_cluster()
    job = cluster.finish("true").job_id
    # given a controller that runs: a second one is refused, and disturbs nothing
    status, said = refused_start(cluster)
    assert status == 6
    assert "another controller" in said
    assert str(cluster.running["cranectld"].pid) in said
    assert cluster.finish("true").state.name == "COMPLETED"
    # and so is one on a store of a later version, or a damaged one
    assert cluster.stop("cranectld") == 0
    (log,) = [name for name in os.listdir(cluster.path("state")) if name.startswith("log")
              and name.endswith(".db")] or [""]  # fmt: skip
    path = cluster.path("state", log)
    with open(path, "rb") as file:
        whole = file.read()
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.commit()
    connection.close()
    status, said = refused_start(cluster)
    assert status == 6
    assert path in said
    with open(path, "wb") as file:
        file.write(whole[: len(whole) // 2] + os.urandom(len(whole) - len(whole) // 2))
    status, said = refused_start(cluster)
    assert status == 6
    assert path in said
    with open(path, "wb") as file:
        file.write(whole)
    cluster.start_controller()
    assert cluster.state(job) == "COMPLETED"


def test_a_controller_that_is_restarted_in_order_forgets_nothing(make_cluster):
    cluster = make_cluster()
    held = cluster.submit("true", hold=True, comment="kept", array="0-9%2")
    drained = ["ccontrol", "update", "NodeName=n1", "State=drain", "Reason=kept"]
    cluster.out(drained)
    before = cluster.job(held)
    assert cluster.stop("cranectld") == 0
    cluster.start_controller()
    assert cluster.job(held) == before
    (node,) = cluster.client.nodes(["n1"])
    assert (node.drain, node.reason) == (True, "kept")
