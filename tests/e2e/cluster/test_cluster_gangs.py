"""Jobs of several tasks and nodes: `crun`, its variables and output, launchers that look for Slurm."""

from __future__ import annotations

import re
import shutil

import pytest

GANG = {"nodes": 2, "ntasks": 4, "ntasks_per_node": 2}


def test_tasks_run_on_all_nodes_with_their_ranks(cluster):
    show = "echo $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURMD_NODENAME $CRANE_NTASKS"
    done = cluster.finish(f"echo once; crun sh -c '{show} $SLURM_STEP_ID'", **GANG)
    assert done.state.name == "COMPLETED"
    lines = cluster.lines(f"{done.job_id}.out")
    # the script has run once, each task once
    assert lines.pop(0) == "once"
    assert sorted(lines) == ["0 0 0 n1 4 0", "1 1 0 n1 4 0", "2 0 1 n2 4 0", "3 1 1 n2 4 0"]
    batch, step = sorted(cluster.job(done.job_id).steps, key=lambda step: step.step)
    assert (batch.step, step.step, step.ntasks, step.nodes) == (-1, 0, 4, ("n1", "n2"))
    assert step.exit_code == 0


def test_output_is_labelled_and_the_highest_code_is_the_steps(cluster):
    body = "crun --label sh -c 'echo hello; exit $SLURM_PROCID'; echo code $?"
    done = cluster.finish(body, error="/dev/null", **GANG)
    lines = cluster.lines(f"{done.job_id}.out")
    assert sorted(lines[:-1]) == [f"{rank}: hello" for rank in range(4)]
    assert lines[-1] == "code 3"
    # a task that was killed counts as 128 + signal
    done = cluster.finish("crun -n 2 sh -c 'kill -KILL $$'; exit $?", **GANG)
    assert (done.state.name, done.exit_code) == ("FAILED", 137)
    steps = {step.step: step for step in cluster.job(done.job_id).steps}
    assert steps[0].signal == 9 or steps[0].exit_code == 137


def test_a_step_may_be_smaller_than_the_job_and_get_the_input(cluster):
    body = """
crun -n 1 sh -c 'echo one $SLURM_NTASKS'
crun -N 2 --ntasks-per-node 1 sh -c 'echo two $SLURMD_NODENAME'
crun -w n2 -n 1 sh -c 'echo three $SLURMD_NODENAME'
echo typed | crun -n 1 cat
crun -n 3 -i none sh -c 'read x || echo empty'
echo for all | crun -n 2 cat
"""
    done = cluster.finish(body, **GANG)
    lines = cluster.lines(f"{done.job_id}.out")
    assert lines[0] == "one 1"
    assert sorted(lines[1:3]) == ["two n1", "two n2"]
    assert lines[3:] == ["three n2", "typed", *["empty"] * 3, *["for all"] * 2]
    assert len(cluster.job(done.job_id).steps) == 7


def test_the_users_rendezvous_survives_and_torchs_is_set_when_asked_for(cluster):
    names = "MASTER_ADDR MASTER_PORT RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE"
    show = f"'for v in {names}; do eval echo $v=\\${{$v-unset}}; done | xargs echo'"
    env = cluster.environment(MASTER_ADDR="mine", RANK="77")
    body = f"crun sh -c {show}\necho then\ncrun --rendezvous torch sh -c {show}\n"
    body += "crun -n 1 sh -c 'echo $CRANE_MASTER_ADDR $CRANE_MASTER_PORT'"
    done = cluster.finish(body, env=env, **GANG)
    lines = cluster.lines(f"{done.job_id}.out")
    plain, torch = lines[: lines.index("then")], lines[lines.index("then") + 1 : -1]
    unset = "WORLD_SIZE=unset LOCAL_RANK=unset LOCAL_WORLD_SIZE=unset"
    assert plain == [f"MASTER_ADDR=mine MASTER_PORT=unset RANK=77 {unset}"] * 4
    address, port = lines[-1].split()
    assert address == "127.0.0.1"
    assert sorted(torch) == [
        f"MASTER_ADDR={address} MASTER_PORT={port} RANK={rank} WORLD_SIZE=4 "
        f"LOCAL_RANK={rank % 2} LOCAL_WORLD_SIZE=2"
        for rank in range(4)
    ]


def test_a_gang_starts_on_all_of_its_nodes_or_not_at_all(cluster):
    blocker = cluster.submit(cluster.release_file("go"), exclusive=True, nodelist="n2")
    cluster.becomes(blocker, "RUNNING")
    gang = cluster.submit("crun -l hostname", nodes=3, ntasks_per_node=4)
    cluster.says(gang, "Resources")
    assert [node.cpus_alloc for node in cluster.client.nodes()] == [0, 4000, 0]
    cluster.file("go", "")
    assert cluster.wait(gang).state.name == "COMPLETED"
    assert len(cluster.lines(f"{gang}.out")) == 12


def test_a_gang_that_is_cancelled_leaves_no_task_on_any_node(cluster):
    body = "crun sh -c 'echo $$ >> pids; exec sleep 900'"
    gang = cluster.submit(body, **GANG)
    cluster.until_lines("pids", 4)
    cluster.out(f"ccancel {gang}")
    assert cluster.wait(gang).state.name == "CANCELLED"
    for pid in cluster.lines("pids"):
        assert not cluster.alive(pid)


def test_a_step_ends_with_its_script(cluster):
    body = "crun -n 4 sh -c 'echo $$ >> pids; exec sleep 900' & "
    body += "until [ $(wc -l < pids) = 4 ]; do sleep 0.05; done; exit 0"
    cluster.file("pids", "")
    done = cluster.finish(body, **GANG)
    assert done.state.name == "COMPLETED"
    for pid in cluster.lines("pids"):
        assert not cluster.alive(pid)


def test_a_step_is_cancelled_alone(cluster):
    body = "crun -n 2 sh -c 'echo x >> up; exec sleep 900'; echo ended $?"
    job = cluster.submit(body, **GANG)
    cluster.until_lines("up", 2)
    cluster.out(f"ccancel {job}.0")
    done = cluster.wait(job)
    assert done.state.name == "COMPLETED"
    assert re.search(r"^ended (143|137|15|1)$", cluster.output(job), re.MULTILINE)


def test_a_command_that_does_not_exist_is_told(cluster):
    done = cluster.finish("crun -n 2 /no/such/program; echo code $?", error="err", **GANG)
    code = int(cluster.lines(f"{done.job_id}.out")[-1].split()[1])
    assert code in (1, 2, 6, 127)
    assert "/no/such/program" in cluster.read("err")


def test_crun_outside_of_a_job_makes_one(cluster):
    done = cluster.run(["crun", "-n", "2", "sh", "-c", "echo $SLURM_PROCID of $SLURM_NTASKS"])
    assert done.returncode == 0, done
    assert sorted(done.stdout.splitlines()) == ["0 of 2", "1 of 2"]
    assert cluster.run(["crun", "sh", "-c", "exit 5"]).returncode == 5


def test_programs_that_look_for_slurm_find_it(cluster):
    body = """
which srun scontrol
scontrol show hostnames
scontrol show hostnames 'x[1-2]'
scontrol show hostname $SLURM_JOB_NODELIST
srun -N 2 -n 2 --ntasks-per-node=1 --kill-on-bad-exit --mpi=none sh -c 'echo $SLURM_NODEID' | sort
"""
    done = cluster.finish(body, **GANG)
    lines = cluster.lines(f"{done.job_id}.out")
    home = cluster.path("n1", "bin")
    assert lines[:2] == [f"{home}/srun", f"{home}/scontrol"]
    assert lines[2:8] == ["n1", "n2", "x1", "x2", "n1", "n2"]
    assert lines[-2:] == ["0", "1"]


MPI = """\
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int rank, size, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("rank %d of %d sum %d\\n", rank, size, sum);
    MPI_Finalize();
    return 0;
}
"""


def test_open_mpi_starts_its_ranks_through_the_job(cluster):
    if shutil.which("mpirun") is None or shutil.which("mpicc") is None:
        pytest.skip("Open MPI (mpirun and mpicc: openmpi-bin, libopenmpi-dev) is not installed")
    cluster.file("sum.c", MPI)
    # Both agents are on this host, where the shared memory of ranks with the same local number
    # would have the same name: let them talk by TCP, as ranks of different hosts do.
    body = "mpicc -o sum sum.c && mpirun --allow-run-as-root --mca btl self,tcp ./sum"
    done = cluster.finish(body, error="err", **GANG)
    assert done.state.name == "COMPLETED", cluster.read("err")
    assert sorted(cluster.lines(f"{done.job_id}.out")) == [
        f"rank {rank} of 4 sum 6" for rank in range(4)
    ]
    # its daemons have come by srun: as one step of the job (mpirun finds none of the nodes to be
    # its own host, by whose name it goes, and so starts a daemon on the first one too)
    (step,) = [step for step in cluster.job(done.job_id).steps if step.step >= 0]
    assert step.nodes == ("n1", "n2")
