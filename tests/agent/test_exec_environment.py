"""The variables programs written for Slurm look for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from craned.exec.environment import (
    ArrayScope,
    HostScope,
    JobScope,
    StepScope,
    batch_variables,
    compress_counts,
    decode_environment,
    encode_environment,
    host_variables,
    job_variables,
    login_variables,
    step_host_variables,
    step_variables,
    task_templates,
    torch_rendezvous,
)

JOB = JobScope(
    job_id=42, name="train", user="ada", uid=1000, gid=100, group="users", nodes=("n1", "n2", "n3"),
    nodelist="n[1-3]", tasks_per_node=(2, 2, 1), cpus_per_node=(8, 8, 4),
    addresses=("10.0.0.1", "10.0.0.2", "10.0.0.3"), partition="gpu", account="phys", qos="normal",
    submit_dir="/home/ada", submit_host="login1", start_time=1000, end_time=4600,
)  # fmt: skip
STEP = StepScope(0, ("n2", "n3"), "n[2-3]", ((0, 2), (1,)), launch_node="10.0.0.1")
NEVER_OURS = {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"}


def test_the_jobs_scope_has_every_variable_of_the_contract():
    found = job_variables(replace(JOB, mem_per_node=1024, gpus=8, ntasks_per_node=2,
                                  cpus_per_task=4))  # fmt: skip
    expected = {
        "JOB_ID": "42", "JOBID": "42", "JOB_NAME": "train", "JOB_USER": "ada", "JOB_UID": "1000",
        "JOB_ACCOUNT": "phys", "JOB_PARTITION": "gpu", "JOB_QOS": "normal",
        "JOB_NODELIST": "n[1-3]", "NODELIST": "n[1-3]", "JOB_NUM_NODES": "3", "NNODES": "3",
        "NTASKS": "5", "NPROCS": "5", "NTASKS_PER_NODE": "2", "TASKS_PER_NODE": "2(x2),1",
        "JOB_CPUS_PER_NODE": "8(x2),4", "CPUS_PER_TASK": "4", "MEM_PER_NODE": "1024", "GPUS": "8",
        "SUBMIT_DIR": "/home/ada", "SUBMIT_HOST": "login1", "CLUSTER_NAME": "crane",
        "RESTART_COUNT": "0", "JOB_START_TIME": "1000", "JOB_END_TIME": "4600",
    }  # fmt: skip
    for name, value in expected.items():
        assert found[f"SLURM_{name}"] == found[f"CRANE_{name}"] == value


def test_what_was_not_requested_is_not_set():
    found = job_variables(JOB)
    for name in ("NTASKS_PER_NODE", "CPUS_PER_TASK", "MEM_PER_NODE", "MEM_PER_CPU", "GPUS"):
        assert f"SLURM_{name}" not in found
    assert not [name for name in found if "ARRAY" in name]


def test_an_array_task_knows_its_place():
    found = job_variables(replace(JOB, array=ArrayScope(40, 7, 1, 9, 2, 5)))
    values = {n: found[f"SLURM_ARRAY_{n}"] for n in
              ("JOB_ID", "TASK_ID", "TASK_MIN", "TASK_MAX", "TASK_STEP", "TASK_COUNT")}  # fmt: skip
    assert list(values.values()) == ["40", "7", "1", "9", "2", "5"]


def test_the_users_own_rendezvous_survives():
    host = HostScope("n1", 0, 8, (0, 2), {"CUDA_VISIBLE_DEVICES": "0,2"})
    everything = {
        **job_variables(JOB),
        **host_variables(host, {}),
        **batch_variables(0o22),
        **step_variables(STEP),
        **step_host_variables(STEP, 0),
        **dict(entry.split("=", 1) for entry in task_templates()),
    }
    assert not NEVER_OURS & set(everything)
    assert everything["CRANE_MASTER_ADDR"] == "10.0.0.1"
    assert 1024 < int(everything["CRANE_MASTER_PORT"]) < 65536
    one_node = replace(JOB, nodes=("n1",), tasks_per_node=(1,), addresses=())
    assert "CRANE_MASTER_ADDR" not in job_variables(one_node)


def test_a_host_says_what_is_on_it():
    host = HostScope("n2", 1, 8, (1, 3), {"CUDA_VISIBLE_DEVICES": "1,3"}, "/scratch/42", "/opt/s")
    found = host_variables(host, {"PATH": "/bin"})
    assert found["SLURM_NODEID"] == "1"
    assert found["SLURMD_NODENAME"] == "n2"
    assert found["SLURM_CPUS_ON_NODE"] == "8"
    assert (found["SLURM_GPUS_ON_NODE"], found["SLURM_JOB_GPUS"]) == ("2", "1,3")
    assert found["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert found["TMPDIR"] == "/scratch/42"
    assert found["PATH"] == "/opt/s:/bin"


def test_a_step_says_where_its_tasks_are():
    found = step_variables(STEP) | step_host_variables(STEP, 0)
    assert found["SLURM_STEP_ID"] == found["SLURM_STEPID"] == "0"
    assert found["SLURM_STEP_NODELIST"] == "n[2-3]"
    assert (found["SLURM_STEP_NUM_NODES"], found["SLURM_STEP_NUM_TASKS"]) == ("2", "3")
    assert found["SLURM_STEP_TASKS_PER_NODE"] == "2,1"
    assert found["SLURM_GTIDS"] == "0,2"
    assert found["SLURM_NTASKS"] == "3"
    assert "SLURM_PROCID={rank}" in task_templates()
    assert "SLURM_LOCALID={local}" in task_templates()


def test_a_torch_rendezvous_is_made_on_request():
    found = torch_rendezvous(JOB, STEP, 1)
    assert found["MASTER_ADDR"] == "10.0.0.2"
    assert (found["WORLD_SIZE"], found["LOCAL_WORLD_SIZE"], found["NODE_RANK"]) == ("3", "1", "1")
    assert "RANK={rank}" in task_templates(torch=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 4), max_size=12))
def test_compressed_counts_expand_to_what_they_were(counts):
    expanded: list[int] = []
    for part in filter(None, compress_counts(counts).split(",")):
        count, _, repeat = part.partition("(x")
        expanded += [int(count)] * int(repeat.rstrip(")") or 1)
    assert expanded == counts


def test_layers_lie_over_each_other():
    data = encode_environment(
        login_variables("ada", "/home/ada", "/bin/sh"),
        {"A": "1", "B=": "x", "C": "\0"},
        {"A": "ü\udcff"},
    )
    found = decode_environment(data)
    assert found["A"] == "ü\udcff"
    assert found["HOME"] == "/home/ada"
    assert "C" not in found
    assert not [name for name in found if name.startswith("B")]
