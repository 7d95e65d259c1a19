"""Variables a job finds in its environment: `CRANE_*`, and the `SLURM_*` twins programs rely on.

Each scope is a function of a plain value: the job (on every host), the host, the step, the task.
Names and meanings are those of sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES". MASTER_ADDR,
MASTER_PORT, RANK and WORLD_SIZE are never set here: they are the user's, and must survive;
`torch_rendezvous` makes them for the one who asks. TASK_PID is set where a task is started
(craned.exec.spawn).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MASTER_PORT_BASE = 20_000
MASTER_PORT_COUNT = 20_000
_MIRRORS = ("CRANE_", "SLURM_")


@dataclass(frozen=True, slots=True)
class ArrayScope:
    """Of a job that is a task of an array: indices as the user gave them."""

    job_id: int
    task_id: int
    first: int
    last: int
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class JobScope:
    """What is the same on every host of a job."""

    job_id: int
    name: str
    user: str
    uid: int
    gid: int
    group: str
    nodes: tuple[str, ...]
    """Names in the order of the allocation; the batch script runs on the first."""
    nodelist: str
    """The same as a hostlist expression."""
    tasks_per_node: tuple[int, ...]
    cpus_per_node: tuple[int, ...]
    """Whole CPUs allocated on each node."""
    addresses: tuple[str, ...] = ()
    """How other hosts reach each node; empty: by its name."""
    partition: str = ""
    account: str = ""
    qos: str = ""
    cluster: str = "crane"
    submit_dir: str = ""
    submit_host: str = ""
    ntasks_per_node: int = 0
    """As requested; 0: not requested, and then not set (programs look at its presence)."""
    cpus_per_task: int = 0
    """As requested, whole CPUs; 0: not requested."""
    mem_per_node: int = 0
    """MiB as requested; 0: not requested."""
    mem_per_cpu: int = 0
    gpus: int = 0
    """GPUs of the whole job."""
    restarts: int = 0
    start_time: int = 0
    """Seconds since the epoch."""
    end_time: int = 0
    """When the time limit ends, seconds since the epoch; 0: no limit."""
    array: ArrayScope | None = None


@dataclass(frozen=True, slots=True)
class HostScope:
    """What a job has on one host."""

    node: str
    node_id: int
    """Place of the host in the job's node list."""
    cpus: int
    gpu_indices: tuple[int, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)
    """Rendered variables of its device slots (craned.hw.slots), full names."""
    scratch: str = ""
    """TMPDIR for the job; empty: the user's own."""
    path_prefix: str = ""
    """Directory of the `srun` and `scontrol` look-alikes, put first in PATH."""
    door: str = ""
    """Socket of the host's agent, which `crun` asks for steps."""


@dataclass(frozen=True, slots=True)
class StepScope:
    """A step made by `crun`, or a batch step (step -1, one task)."""

    step: int
    nodes: tuple[str, ...]
    nodelist: str
    ranks: tuple[tuple[int, ...], ...]
    """Ranks of the tasks of each node, in the order of their local ids."""
    launch_node: str = ""
    """Address of the host `crun` runs on."""
    comm_host: str = ""

    @property
    def ntasks(self) -> int:
        """Tasks of the whole step."""
        return sum(len(ranks) for ranks in self.ranks)


def compress_counts(counts: Sequence[int]) -> str:
    """Counts per node in Slurm's notation: (2, 2, 2, 1) -> `2(x3),1`."""
    parts: list[str] = []
    start = 0
    for at in range(1, len(counts) + 1):
        if at == len(counts) or counts[at] != counts[start]:
            repeat = at - start
            parts.append(f"{counts[start]}(x{repeat})" if repeat > 1 else str(counts[start]))
            start = at
    return ",".join(parts)


def mirrored(values: Mapping[str, str]) -> dict[str, str]:
    """Every name with each of the prefixes `CRANE_` and `SLURM_`."""
    return {prefix + name: value for name, value in values.items() for prefix in _MIRRORS}


def job_variables(job: JobScope) -> dict[str, str]:
    """Variables of the job's scope, the same in its script and in all of its steps."""
    tasks = compress_counts(job.tasks_per_node)
    total = str(sum(job.tasks_per_node))
    values = {
        "JOB_ID": str(job.job_id),
        "JOBID": str(job.job_id),
        "JOB_NAME": job.name,
        "JOB_USER": job.user,
        "JOB_UID": str(job.uid),
        "JOB_GID": str(job.gid),
        "JOB_GROUP": job.group,
        "JOB_ACCOUNT": job.account,
        "JOB_PARTITION": job.partition,
        "JOB_QOS": job.qos,
        "JOB_NODELIST": job.nodelist,
        "NODELIST": job.nodelist,
        "JOB_NUM_NODES": str(len(job.nodes)),
        "NNODES": str(len(job.nodes)),
        "NTASKS": total,
        "NPROCS": total,
        "TASKS_PER_NODE": tasks,
        "JOB_CPUS_PER_NODE": compress_counts(job.cpus_per_node),
        "CLUSTER_NAME": job.cluster,
        "SUBMIT_DIR": job.submit_dir,
        "SUBMIT_HOST": job.submit_host,
        "RESTART_COUNT": str(job.restarts),
        "JOB_START_TIME": str(job.start_time),
    }
    optional = {
        "NTASKS_PER_NODE": job.ntasks_per_node,
        "CPUS_PER_TASK": job.cpus_per_task,
        "MEM_PER_NODE": job.mem_per_node,
        "MEM_PER_CPU": job.mem_per_cpu,
        "GPUS": job.gpus,
        "JOB_END_TIME": job.end_time,
    }
    values.update((name, str(value)) for name, value in optional.items() if value)
    if job.array is not None:
        values.update(array_variables(job.array))
    found = mirrored(values)
    if len(job.nodes) > 1:
        found["CRANE_MASTER_ADDR"] = (job.addresses or job.nodes)[0]
        found["CRANE_MASTER_PORT"] = str(master_port(job.job_id))
    return found


def array_variables(array: ArrayScope) -> dict[str, str]:
    """Variables of a task of an array, without prefix (they go into the job's)."""
    return {
        "ARRAY_JOB_ID": str(array.job_id),
        "ARRAY_TASK_ID": str(array.task_id),
        "ARRAY_TASK_MIN": str(array.first),
        "ARRAY_TASK_MAX": str(array.last),
        "ARRAY_TASK_STEP": str(array.step),
        "ARRAY_TASK_COUNT": str(array.count),
    }


def master_port(job_id: int) -> int:
    """A port for the job's own rendezvous, the same on all of its hosts."""
    return MASTER_PORT_BASE + job_id % MASTER_PORT_COUNT


def host_variables(host: HostScope, inherited: Mapping[str, str]) -> dict[str, str]:
    """Variables of one host; `inherited` is the environment they will be laid over."""
    values = {"NODEID": str(host.node_id), "CPUS_ON_NODE": str(host.cpus)}
    if host.gpu_indices:
        indices = ",".join(map(str, host.gpu_indices))
        values["GPUS_ON_NODE"] = str(len(host.gpu_indices))
        values["JOB_GPUS"] = indices
        values["STEP_GPUS"] = indices
    found = mirrored(values)
    found["SLURMD_NODENAME"] = found["CRANED_NODENAME"] = host.node
    found.update(host.devices)
    if host.door:
        found["CRANE_HOST_SOCKET"] = host.door
    if host.scratch:
        found["TMPDIR"] = host.scratch
    if host.path_prefix:
        path = inherited.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        found["PATH"] = f"{host.path_prefix}:{path}"
    return found


def batch_variables(umask: int) -> dict[str, str]:
    """What the batch script has beside the job's and the host's: it is task 0 of its job.

    (`crun` says the mask it was called with itself, by the same variable.)
    """
    values = {"PROCID": "0", "LOCALID": "0", "GTIDS": "0", "UMASK": f"{umask:04o}"}
    return mirrored(values) | {"ENVIRONMENT": "BATCH"}


def step_variables(step: StepScope) -> dict[str, str]:
    """Variables of a step's scope."""
    per_node = compress_counts([len(ranks) for ranks in step.ranks])
    number = str(step.step)
    total = str(step.ntasks)
    values = {
        "STEP_ID": number,
        "STEPID": number,
        "STEP_NODELIST": step.nodelist,
        "STEP_NUM_NODES": str(len(step.nodes)),
        "STEP_NUM_TASKS": total,
        "STEP_TASKS_PER_NODE": per_node,
        "TASKS_PER_NODE": per_node,
        "NNODES": str(len(step.nodes)),
        "NTASKS": total,
        "NPROCS": total,
    }
    if step.launch_node:
        values["LAUNCH_NODE_IPADDR"] = step.launch_node
    if step.comm_host:
        values["SRUN_COMM_HOST"] = step.comm_host
    return mirrored(values)


def step_host_variables(step: StepScope, node_id: int) -> dict[str, str]:
    """Of a step on one of its hosts: `node_id` counts within the step's own node list."""
    ranks = ",".join(map(str, step.ranks[node_id]))
    return mirrored({"NODEID": str(node_id), "GTIDS": ranks})


def task_templates(*, torch: bool = False) -> tuple[str, ...]:
    """Templates for `LaunchOrder.task_env`: what differs from task to task."""
    values = mirrored({"PROCID": "{rank}", "LOCALID": "{local}"})
    if torch:
        values |= {"RANK": "{rank}", "LOCAL_RANK": "{local}"}
    return tuple(f"{name}={value}" for name, value in values.items())


def torch_rendezvous(job: JobScope, step: StepScope, node_id: int) -> dict[str, str]:
    """What `torch.distributed` reads (env:// initialisation), for `--rendezvous torch`.

    With `task_templates(torch=True)` every task is a worker of its own.
    """
    addresses = dict(zip(job.nodes, job.addresses or job.nodes, strict=True))
    return {
        "MASTER_ADDR": addresses[step.nodes[0]],
        "MASTER_PORT": str(master_port(job.job_id)),
        "WORLD_SIZE": str(step.ntasks),
        "LOCAL_WORLD_SIZE": str(len(step.ranks[node_id])),
        "NODE_RANK": str(node_id),
        "GROUP_RANK": str(node_id),
    }


def login_variables(user: str, home: str, shell: str) -> dict[str, str]:
    """What a login would set, for a job submitted with `--export=NONE`."""
    return {
        "USER": user,
        "LOGNAME": user,
        "HOME": home,
        "SHELL": shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }


def encode_environment(*layers: Mapping[str, str]) -> bytes:
    """Layers over each other, the last wins, as NUL-separated entries for a LaunchOrder.

    Names with `=` or NUL, and values with NUL, cannot be in an environment and are left out.
    """
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer)
    return b"\0".join(
        f"{name}={value}".encode(errors="surrogateescape")
        for name, value in merged.items()
        if name and "=" not in name and "\0" not in name and "\0" not in value
    )


def decode_environment(data: bytes) -> dict[str, str]:
    """NUL-separated entries as a dictionary; entries without `=` are left out."""
    found = {}
    for entry in data.decode(errors="surrogateescape").split("\0"):
        name, equals, value = entry.partition("=")
        if equals and name:
            found[name] = value
    return found
