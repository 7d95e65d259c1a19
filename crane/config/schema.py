"""Every key of the configuration file: its section, kind, bounds and meaning, in one table.

Loading, checking, explaining and the documentation all read this table.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING

from crane.config.model import (
    POLICIES,
    PRIORITIES,
    AgentConfig,
    ClusterConfig,
    ControllerConfig,
    Limits,
    NodeConfig,
    PartitionConfig,
    PriorityConfig,
    SchedulerConfig,
    Timeouts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE = 64 << 20
MAX_NODES = 200_000
MAX_PARTITIONS = 10_000
MAX_SLOTS = 1_024
"""Most slots of one device group."""

_BIG = 1 << 53


@dataclass(frozen=True, slots=True)
class Key:
    """One key; `kind` names the converter in `crane.config.convert`."""

    name: str
    kind: str
    doc: str
    low: float = 0
    high: float = _BIG
    choices: tuple[str, ...] = ()


CLUSTER = (
    Key("name", "word", "Name of the cluster, shown by commands and set in jobs."),
    Key("operators", "words", "Users with operator rights; root is an administrator anyway."),
    Key("job_requeue", "bool", "Whether jobs that do not say run again after a node failure."),
)
SCHEDULER = (
    Key(
        "policy",
        "choice",
        "`fifo`; `easy` for EASY backfill; `conservative` promises every job a start and keeps it, "
        "`conservative-replan` promises anew in every pass.",
        choices=POLICIES,
    ),
    Key("depth", "int", "How many pending job records one pass looks at.", 1, 10_000_000),
    Key("window", "duration", "Conservative: how far into the future starts are promised.", 60),
    Key(
        "resolution",
        "duration",
        "Conservative: grid of promised starts; `1` is exact, a coarser one is planned faster.",
        1,
        86_400,
    ),
    Key(
        "estimate_steps",
        "int",
        "What a pass spends on estimates of starts: visits of nodes, 10 to 20 ns each.",
        0,
        1 << 40,
    ),
    Key(
        "visits",
        "int",
        "Conservative: what a pass spends on promises: searches of a node, 50 to 100 ns each. Jobs "
        "that are not reached keep what was promised to them.",
        0,
        1 << 40,
    ),
    Key("weight_age", "int", "Priority points per day of waiting; 0 is order of submission."),
    Key("weight_partition", "int", "What a partition's priority is multiplied by."),
)
PRIORITY = (
    Key(
        "kind",
        "choice",
        "`basic`: as submitted, with nice values, operators' priorities and the weights under "
        "`[scheduler]`. `multifactor`: the sum of what follows, less the nice value.",
        choices=PRIORITIES,
    ),
    Key("age", "int", "Points of a job that has waited for `max_age`.", 0, (1 << 32) - 1),
    Key(
        "fair_share",
        "int",
        "Points of the user who has had least of his share (Fair Tree).",
        0,
        (1 << 32) - 1,
    ),
    Key("size", "int", "Points of a job that wants the whole cluster.", 0, (1 << 32) - 1),
    Key(
        "partition",
        "int",
        "Points in the partition with the highest `priority`; in others in proportion.",
        0,
        (1 << 32) - 1,
    ),
    Key("max_age", "duration", "Waiting any longer adds nothing.", 1, (1 << 32) - 1),
    Key("half_life", "duration", "Time in which usage comes to count half; 0: it counts for ever."),
    Key("small_first", "bool", "Gives the points of `size` to small jobs."),
)
TIMEOUTS = (
    Key("heartbeat", "seconds", "Seconds between an agent's signs of life.", 0.01, 3_600),
    Key("node", "seconds", "A node silent for so many seconds is down.", 0.02, 86_400),
    Key("lease", "seconds", "How many seconds an agent works without a controller.", 0.02, 1e7),
    Key(
        "lost_contact",
        "choice",
        "What an agent does with its jobs when its lease has run out. Jobs of a silent node are "
        "run again elsewhere only with `kill`, or when the node is known to be off. Jobs that run "
        "follow a change within half a minute, or five eighths of the old lease.",
        choices=("keep", "kill"),
    ),
    Key("kill_grace", "int", "Seconds between SIGTERM and SIGKILL.", 0, 86_400),
    Key("min_job_age", "int", "Seconds an ended job stays in the queue's listing.", 0, 86_400 * 30),
)
LIMITS = (
    Key("max_jobs", "int", "Most job records in memory.", 1, 100_000_000),
    Key("max_array_size", "int", "Most tasks of one array.", 1, 100_000_000),
    Key(
        "max_array_tasks",
        "int",
        "Most tasks of all arrays in memory together: 11 bytes each.",
        1,
        1_000_000_000,
    ),
    Key("max_script", "int", "Largest script in bytes.", 64, 16 << 20),
    Key("max_environment", "int", "Largest environment of a job in bytes.", 1_024, 16 << 20),
    Key("max_batch", "int", "Most jobs in one submission message.", 1, 1_000_000),
    Key("max_requeue", "int", "How often a job is run again before it is held.", 0, 10_000),
)
NODE = (
    Key("name", "hosts", "Name, or a list like `n[01-16]` that all the rest holds for."),
    Key("address", "text", "Address other nodes reach it by; a list if `name` is one."),
    Key("cpus", "cpus", "CPUs to schedule; 0: as many as the agent finds.", 0, 1e6),
    Key("memory", "memory", "Memory to schedule (`64G`); 0: what the agent finds."),
    Key(
        "gres",
        "gres",
        "Generic resources without devices: `licence:4`. Devices count by themselves.",
    ),
    Key("devices", "devices", "Groups of devices, see below."),
    Key("features", "features", "Names for `--constraint`."),
    Key("weight", "int", "Nodes of lower weight are filled first.", 0, 1 << 31),
    Key("switch", "text", "Name of the network switch it hangs on."),
)
DEVICE = (
    Key("name", "resource", "What jobs ask for: `gpu`, `npu`."),
    Key("type", "resource", "Type in `gpu:TYPE:2`; empty: none."),
    Key("count", "int", "Number of slots, if they have no files.", 0, MAX_SLOTS),
    Key("files", "slots", "One path or list of paths per slot."),
    Key("numa", "ints", "NUMA node of each slot.", -1, 4_096),
    Key("manager_files", "paths", "Files every job with at least one slot may open."),
    Key("environment", "table", "Variables of jobs; `{indices}` and `{files}` are filled in."),
)
PARTITION = (
    Key("name", "word", "Name for `--partition`."),
    Key("nodes", "members", "Hostlist, list of hostlists, or `ALL`."),
    Key("default", "bool", "Where jobs go that name no partition. If none is: the first."),
    Key("max_time", "duration", "Longest time limit (`2-00:00:00`, `UNLIMITED`).", 1),
    Key("default_time", "duration", "Time limit of jobs that give none; 0: `max_time`."),
    Key("max_nodes", "int", "Most nodes of one job; 0: no bound.", 0, MAX_NODES),
    Key("default_mem_per_cpu", "memory", "Memory per CPU of jobs that ask for none; 0: no limit."),
    Key("priority", "int", "Higher goes first.", 0, 1 << 31),
    Key("up", "bool", "Whether jobs start."),
    Key("allow_accounts", "words", "Accounts that may use it; empty: all."),
)
CONTROLLER = (
    Key("listen", "endpoint", "Address and port for agents and remote clients."),
    Key("state_dir", "path", "Directory of the log and the snapshots."),
    Key("socket", "socket", "Local door: the socket commands on this host use."),
    Key("key_file", "path", "The cluster's key, readable by its owner only."),
    Key(
        "keep_log",
        "bool",
        "Whether the log is kept from its first event. With `false` it is kept from the older of "
        "two snapshots on: accounting stays, but cannot be made anew, nor events be followed from "
        "further back.",
    ),
)
AGENT = (
    Key("controller", "endpoint", "Where the controller listens."),
    Key("state_dir", "path", "Directory of the spool, and of what is to be remembered."),
    Key("socket", "socket", "Local door of the agent."),
    Key("key_file", "path", "The cluster's key, readable by its owner only."),
    Key("cgroup_root", "path", "Where cgroups are mounted."),
    Key("cgroup", "choice", "Backend; `none` watches processes instead.",
        choices=("auto", "v2", "v1", "none")),
)  # fmt: skip

SECTIONS: Mapping[str, tuple[Key, ...]] = {
    "cluster": CLUSTER,
    "scheduler": SCHEDULER,
    "priority": PRIORITY,
    "timeouts": TIMEOUTS,
    "limits": LIMITS,
    "controller": CONTROLLER,
    "agent": AGENT,
}
"""Sections that are one table each."""

LISTS: Mapping[str, tuple[Key, ...]] = {"nodes": NODE, "partitions": PARTITION}
"""Sections that are arrays of tables (`[[nodes]]`)."""

MODELS = {
    "cluster": ClusterConfig,
    "scheduler": SchedulerConfig,
    "priority": PriorityConfig,
    "timeouts": Timeouts,
    "limits": Limits,
    "controller": ControllerConfig,
    "agent": AgentConfig,
    "nodes": NodeConfig,
    "partitions": PartitionConfig,
}


def default_of(section: str, name: str) -> object:
    """Default of a key in the model's units; None for a key that must be given."""
    for item in fields(MODELS[section]):
        if item.name == name and item.default is not MISSING:
            default: object = item.default
            return default
    return None
