"""Files of a development cluster: its configuration, its devices, and who its processes are."""

from __future__ import annotations

import os

from crane.errors import CraneError, ErrorCode
from crane.gres import format_gres
from crane.memspec import format_cpus
from crane.record import dataclass, field

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crane.jobspec import Gres

_VISIBLE = {
    "gpu": {"CUDA_VISIBLE_DEVICES": "{indices}"},
    "npu": {"ASCEND_VISIBLE_DEVICES": "{indices}", "ASCEND_RT_VISIBLE_DEVICES": "{indices}"},
}
_LONGEST_SOCKET = 100
"""Bytes of a socket's path, a little below the kernel's 108 (unix(7))."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What cluster to start."""

    home: str
    nodes: int
    cpus: int = 0
    """Thousandths for each node; 0: an equal share of this machine's."""
    memory: int = 0
    """MiB for each node; 0: an equal share of this machine's."""
    gres: tuple[Gres, ...] = ()
    own_gres: dict[int, tuple[Gres, ...]] = field(default_factory=dict)
    """Devices of single nodes, by their number from 1."""
    policy: str = "easy"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the cluster; its start time tells it from a later one with the same number."""

    name: str
    pid: int
    started: int


def path(home: str, *parts: str) -> str:
    """A file of the cluster."""
    return os.path.join(home, *parts)


def socket_path(home: str) -> str:
    """The controller's socket."""
    return path(home, "cranectld.sock")


def make_home(plan: Plan) -> None:
    """Make the directory, for its owner alone. Raises SYSTEM, SOCKET_UNUSABLE."""
    longest = path(plan.home, f"n{plan.nodes}.sock")
    if len(os.fsencode(longest)) > _LONGEST_SOCKET:
        raise CraneError(
            ErrorCode.SOCKET_UNUSABLE,
            f"{longest} is too long for the path of a socket",
            f"choose a shorter --home (the limit is {_LONGEST_SOCKET} bytes)",
        )
    try:
        os.makedirs(plan.home, mode=0o700, exist_ok=True)
        for name in ("log", "controller", "devices"):
            os.makedirs(path(plan.home, name), mode=0o700, exist_ok=True)
    except OSError as error:
        raise CraneError(
            ErrorCode.SYSTEM, f"cannot make {plan.home}: {error.strerror}", "choose another --home"
        ) from None


def write_config(plan: Plan, port: int) -> str:
    """Write `crane.toml` and the files that stand for devices; the path of the configuration."""
    home = plan.home
    cpus = plan.cpus or max(1, len(os.sched_getaffinity(0)) // plan.nodes) * 1000
    memory = plan.memory or max(64, _machine_memory() // plan.nodes)
    lines = [
        "# Written by `crane up`: changes are lost with the next one.",
        "[cluster]",
        'name = "dev"',
        "[scheduler]",
        f'policy = "{plan.policy}"',
        "[timeouts]",
        "heartbeat = 1.0",
        "[controller]",
        f'listen = "127.0.0.1:{port}"',
        f"state_dir = {_quoted(path(home, 'controller'))}",
        f"socket = {_quoted(socket_path(home))}",
        f"key_file = {_quoted(path(home, 'cluster.key'))}",
        "[agent]",
        f'controller = "127.0.0.1:{port}"',
        f"state_dir = {_quoted(path(home, 'agent'))}",
        f"socket = {_quoted(path(home, 'agent.sock'))}",
        f"key_file = {_quoted(path(home, 'cluster.key'))}",
    ]
    for number in range(1, plan.nodes + 1):
        lines += [
            "[[nodes]]",
            f'name = "n{number}"',
            'address = "127.0.0.1"',
            f"cpus = {format_cpus(cpus)}",
            f'memory = "{memory}M"',
        ]
        for group in plan.own_gres.get(number, plan.gres):
            lines += _devices(home, number, group)
    lines += ["[[partitions]]", 'name = "main"', 'nodes = "ALL"', "default = true"]
    target = path(home, "crane.toml")
    _write(target, "\n".join(lines) + "\n")
    return target


def _devices(home: str, number: int, group: Gres) -> list[str]:
    """A group of devices, each a plain file."""
    files = []
    for index in range(group.count):
        name = "-".join(part for part in (group.name, group.type, str(index)) if part)
        folder = path(home, "devices", f"n{number}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        files.append(path(folder, name))
        _write(files[-1], f"{format_gres((group,))} slot {index} of n{number}\n")
    variables = _VISIBLE.get(group.name, {f"{group.name.upper()}_VISIBLE_DEVICES": "{indices}"})
    table = ", ".join(f"{name} = {_quoted(value)}" for name, value in variables.items())
    return [
        "[[nodes.devices]]",
        f"name = {_quoted(group.name)}",
        *([f"type = {_quoted(group.type)}"] if group.type else []),
        f"files = [{', '.join(map(_quoted, files))}]",
        f"environment = {{ {table} }}",
    ]


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = "".join(
        f"\\u{ord(char):04x}" if char < " " or char in '"\\\x7f' else char for char in text
    )
    return f'"{escaped}"'


def _machine_memory() -> int:
    """MiB of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _write(target: str, text: str) -> None:
    partial = f"{target}.new"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(partial, target)


def start_time(pid: int) -> int:
    """When a process was started, in clock ticks since boot (proc(5), stat field 22); 0: no such."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return int(fields[19]) if fields[0] not in {b"Z", b"X"} else 0


def save(home: str, processes: Iterable[Process]) -> None:
    """Remember the processes."""
    rows = (f"{process.name} {process.pid} {process.started}\n" for process in processes)
    _write(path(home, "processes"), "".join(rows))


def processes(home: str) -> list[Process]:
    """Those of the remembered processes that still live."""
    found: list[Process] = []
    try:
        with open(path(home, "processes"), encoding="utf-8") as file:
            rows = [line.split() for line in file]
    except FileNotFoundError:
        return found
    for row in rows:
        if len(row) == 3 and row[1].isdigit() and row[2].isdigit():
            process = Process(row[0], int(row[1]), int(row[2]))
            if alive(process):
                found.append(process)
    return found


def alive(process: Process) -> bool:
    """Whether it still runs: the same number *and* the same start."""
    return process.started != 0 and start_time(process.pid) == process.started


def leftovers(home: str) -> list[Process]:
    """Processes of this user that were started with a path of this cluster (launchers, shims)."""
    mark = os.fsencode(os.path.join(home, ""))
    found: list[Process] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if os.stat(f"/proc/{entry}").st_uid != os.geteuid():
                continue
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # it has just ended
        daemons = (b"craned", b"cranectld")
        ours = any(daemon in word for word in words for daemon in daemons)
        if ours and any(word.startswith(mark) or b"=" + mark in word for word in words):
            found.append(Process("leftover", int(entry), start_time(int(entry))))
    return [process for process in found if process.started]
