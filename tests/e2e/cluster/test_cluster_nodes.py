"""Where jobs run: node states, features, node lists, whole nodes, devices, partitions, memory."""

from __future__ import annotations


def nodes_of(cluster, **options) -> list[str]:
    """Where a job with these options ran."""
    return list(cluster.finish("true", output="/dev/null", **options).nodes)


def test_jobs_go_where_their_options_say(cluster):
    expected = {
        "n3": {"constraint": "new", "exclude": "n2"},
        "n2": {"constraint": "ib&new"},
        "n1": {"constraint": "old|gone"},
    }
    for node, options in expected.items():
        assert nodes_of(cluster, **options) == [node]
    assert nodes_of(cluster, nodelist="n2") == ["n2"]
    assert nodes_of(cluster, nodelist="n[2-3]", nodes=2) == ["n2", "n3"]
    assert nodes_of(cluster, exclude="n[1-2]") == ["n3"]
    assert nodes_of(cluster, partition="short") == ["n1"]
    assert set(nodes_of(cluster, constraint="ib", nodes=2)) == {"n1", "n2"}


def test_a_node_is_drained_with_a_reason_and_taken_back(cluster):
    running = cluster.submit(cluster.release_file("go"), nodelist="n2")
    cluster.becomes(running, "RUNNING")
    cluster.out(["ccontrol", "update", "NodeName=n2", "State=drain", "Reason=bad disk"])
    waiting = cluster.submit("true", nodelist="n2")
    cluster.says(waiting, "ReqNodeNotAvail")
    (node,) = cluster.client.nodes(["n2"])
    assert (node.shown_state, node.reason, node.drain) == ("drng", "bad disk", True)
    assert node.reason_time > 0
    assert "bad disk" in cluster.out("cinfo -R")
    # what runs there runs on, and others go elsewhere
    assert "n2" not in nodes_of(cluster, nodes=2)
    cluster.file("go", "")
    assert cluster.wait(running).state.name == "COMPLETED"
    (node,) = cluster.client.nodes(["n2"])
    assert node.shown_state == "drain"
    assert cluster.state(waiting) == "PENDING"
    cluster.out("ccontrol update NodeName=n2 State=resume")
    assert cluster.wait(waiting).nodes == ("n2",)
    assert cluster.client.nodes(["n2"])[0].reason == ""


def test_a_node_set_down_takes_no_job_until_it_is_resumed(cluster):
    cluster.out(["ccontrol", "update", "NodeName=n3", "State=fail", "Reason=burnt"])
    job = cluster.submit("true", nodelist="n3")
    cluster.says(job, "ReqNodeNotAvail")
    assert cluster.client.nodes(["n3"])[0].shown_state == "fail"
    cluster.out("ccontrol update NodeName=n3 State=resume")
    assert cluster.wait(job).state.name == "COMPLETED"


def test_exclusive_means_a_node_of_ones_own(cluster):
    small = cluster.submit(cluster.release_file("go"), nodelist="n1")
    cluster.becomes(small, "RUNNING")
    whole = cluster.submit(
        f"echo $SLURM_CPUS_ON_NODE; {cluster.release_file('end')}", exclusive=True, nodelist="n1"
    )
    cluster.says(whole, "Resources")
    cluster.file("go", "")
    cluster.becomes(whole, "RUNNING")
    cluster.until_output(whole, "4")
    assert cluster.client.nodes(["n1"])[0].shown_state == "alloc"
    late = cluster.submit("true", nodelist="n1")
    cluster.says(late, "Resources")
    cluster.file("end", "")
    assert [d.state.name for d in cluster.wait(small, whole, late)] == ["COMPLETED"] * 3


def test_cpus_are_never_promised_twice(cluster):
    body = "echo + >> log; sleep 0.1; echo - >> log"
    jobs = [cluster.submit(body, cpus_per_task=2, nodelist="n1") for _ in range(6)]
    cluster.wait(*jobs)
    at_a_time, most = 0, 0
    for line in cluster.lines("log"):
        at_a_time += 1 if line == "+" else -1
        most = max(most, at_a_time)
    assert most == 2


def test_memory_is_reserved_and_limits_the_job(cluster):
    first = cluster.submit(cluster.release_file("go"), mem="700M", nodelist="n1")
    cluster.becomes(first, "RUNNING")
    second = cluster.submit("true", mem_per_cpu="200M", cpus_per_task=2, nodelist="n1")
    cluster.says(second, "Resources")
    assert cluster.client.nodes(["n1"])[0].memory_alloc == 700
    assert "memory" in cluster.out(f"cwhy {second}")
    cluster.file("go", "")
    cluster.wait(first, second)


def test_a_job_sees_the_devices_it_was_given_and_no_others(cluster):
    body = f"echo $CUDA_VISIBLE_DEVICES; cat $GPU_FILES; {cluster.release_file('go')}"
    first = cluster.submit(body, gres="gpu:a100:1")
    second = cluster.submit(body, gpus_per_node=1)
    third = cluster.submit("echo $CUDA_VISIBLE_DEVICES", gres="gpu:1")
    for job in (first, second):
        cluster.becomes(job, "RUNNING")
        assert cluster.job(job).nodes == ("n3",)
    cluster.says(third, "Resources")
    for job, index in ((first, "0"), (second, "1")):
        cluster.until_lines(f"{job}.out", 2)
        assert cluster.lines(f"{job}.out") == [index, f"slot {index}"]
    (node,) = cluster.client.nodes(["n3"])
    assert [(g.name, g.type, g.count) for g in node.gres_alloc] == [("gpu", "a100", 2)]
    cluster.file("go", "")
    assert [d.state.name for d in cluster.wait(first, second, third)] == ["COMPLETED"] * 3
    assert cluster.output(third) in ("0\n", "1\n")
    both = cluster.finish("echo $CUDA_VISIBLE_DEVICES; echo $SLURM_GPUS_ON_NODE", gres="gpu:2")
    assert cluster.lines(f"{both.job_id}.out") == ["0,1", "2"]
    none = cluster.finish("echo ${CUDA_VISIBLE_DEVICES-unset}", nodelist="n3")
    assert cluster.output(none.job_id) in ("\n", "unset\n", "NoDevFiles\n")


def test_what_can_never_run_is_refused_when_it_is_submitted(cluster):
    before = cluster.client.status().seq
    refused = {
        "-n 13": "CPU",
        "-N 4": "node",
        "-c 5": "CPU",
        "--mem 2G": "2048 MiB",
        "--gres gpu:a100:3": "gpu",
        "--gres gpu:h100:1": "h100",
        "--gres tpu:1": "tpu",
        "-C fast": "fast",
        "-C old&new": "node",
        "-w n9": "n9",
        "-p short -N 2": "short",
        "-p short -t 20:00": "short",
        "-p nowhere": "nowhere",
        "-p short -w n2": "n2",
    }
    for options, word in refused.items():
        done = cluster.run(f"csub {options} --wrap true")
        assert (done.returncode, done.stdout) == (4, ""), options
        assert word.lower() in done.stderr.lower(), (options, done.stderr)
    assert cluster.client.status().seq == before


def test_partitions_have_default_and_longest_times(cluster):
    plain = cluster.submit("true", partition="short", time=None)
    assert cluster.wait(plain).time_limit == 300
    held = cluster.submit("true", partition="short", time=None, hold=True)
    assert cluster.out(f"cqueue -h -j {held} -o %l") == "5:00\n"
    assert "TimeLimit=5:00 " in cluster.out(f"ccontrol -o show job {held}")
    cluster.out(f"ccancel {held}")
    long = cluster.submit("true", time="20:00", hold=True)
    refused = cluster.run(f"ccontrol update JobId={long} Partition=short")
    assert (refused.returncode, "at most 600 s" in refused.stderr) == (4, True)
    cluster.out(f"ccontrol update JobId={long} Partition=short TimeLimit=9:00")
    cluster.out(f"ccontrol release {long}")
    done = cluster.wait(long)
    assert (done.state.name, done.partition, done.time_limit) == ("COMPLETED", "short", 540)


def test_a_deadline_shortens_the_limit_that_is_shown_and_in_force(cluster):
    job = cluster.submit(
        cluster.release_file("go"), time="20:00", time_min="1:00", deadline="now+10minutes",
        hold=True,
    )  # fmt: skip
    assert cluster.job(job).time_limit == 1200
    cluster.out(f"ccontrol release {job}")
    cluster.becomes(job, "RUNNING")
    row = cluster.job(job)
    assert 500 < row.time_limit <= 600
    assert abs(row.end_time - row.start_time - row.time_limit * 10**9) < 10**9
    cluster.file("go", "")
    assert cluster.wait(job).time_limit == row.time_limit
    assert [past.time_limit for past in cluster.client.history([job])] == [row.time_limit]


def test_priority_and_nice_decide_who_goes_first(cluster):
    blocker = cluster.submit(cluster.release_file("go"), exclusive=True, nodelist="n1")
    cluster.becomes(blocker, "RUNNING")
    order = {"nice": {"nice": 100}, "plain": {}, "urgent": {"priority": 1_000_000_000}}
    jobs = [
        cluster.submit(f"echo {name} >> log", exclusive=True, nodelist="n1", **options)
        for name, options in order.items()
    ]
    cluster.says(jobs[2], "Resources")
    cluster.file("go", "")
    cluster.wait(*jobs)
    assert cluster.lines("log") == ["urgent", "plain", "nice"]
