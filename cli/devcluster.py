"""Starting, showing and ending a development cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from cli import command, devfiles
from cli.devfiles import Plan, Process
from crane.client import Client
from crane.errors import EXIT_FAILED, EXIT_OK, CraneError, ErrorCode

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Plan", "down", "status", "up"]

START_SECONDS = 60.0
STOP_SECONDS = 15.0
_LOOK = 0.05
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def up(plan: Plan) -> int:
    """Start a cluster and wait until every node is there. Raises CraneError."""
    home = plan.home
    if devfiles.processes(home):
        raise CraneError(
            ErrorCode.STORE_BUSY,
            f"a cluster runs in {home} already",
            "crane status shows it, crane down ends it; --home starts another",
        )
    devfiles.make_home(plan)
    key = devfiles.path(home, "cluster.key")
    if not os.path.exists(key):
        from crane.auth.key import create_key

        create_key(key)
    config = devfiles.write_config(plan, _free_port())
    started = [_start(home, "cranectld", ["-m", "cranectld", "--config", config])]
    for number in range(1, plan.nodes + 1):
        name = f"n{number}"
        places = [
            "--state-dir",
            devfiles.path(home, name),
            "--socket",
            devfiles.path(home, f"{name}.sock"),
        ]
        arguments = ["-m", "craned", "--config", config, "--node", name, "--oversubscribe", *places]
        started.append(_start(home, name, arguments))
    devfiles.save(home, started)
    try:
        _wait_ready(plan, started)
    except (CraneError, KeyboardInterrupt):
        _stop(home, started)
        raise
    sys.stdout.write(_welcome(plan))
    return EXIT_OK


def _start(home: str, name: str, arguments: Sequence[str]) -> Process:
    """Start a daemon in a session of its own, its output in a log."""
    paths = [_ROOT, os.environ.get("PYTHONPATH", "")]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in paths if part)}
    for variable in ("CRANE_SOCKET", "CRANE_CONFIG", "CRANE_HOME"):
        environ.pop(variable, None)
    with open(devfiles.path(home, "log", f"{name}.log"), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env=environ,
            start_new_session=True,
        )
    return Process(name, process.pid, devfiles.start_time(process.pid))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_ready(plan: Plan, started: Sequence[Process]) -> None:
    """Wait for the controller, then for the nodes; fail at once if one of the processes ends."""
    deadline = time.monotonic() + START_SECONDS
    shown = -1
    while True:
        ready = _connected(plan.home)
        if ready != shown and sys.stderr.isatty():
            what = f"{ready} of {plan.nodes} nodes" if ready >= 0 else "starting the controller"
            sys.stderr.write(f"\r\x1b[K{what}")
            shown = ready
        if ready >= plan.nodes:
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")
            return
        for process in started:
            if not devfiles.alive(process):
                raise CraneError(
                    ErrorCode.SYSTEM,
                    f"{process.name} has ended: {_last_words(plan.home, process.name)}",
                    f"see {devfiles.path(plan.home, 'log', process.name)}.log",
                )
        if time.monotonic() > deadline:
            raise CraneError(
                ErrorCode.TIMED_OUT,
                f"{max(ready, 0)} of {plan.nodes} nodes were there after {START_SECONDS:g} s",
                f"see {devfiles.path(plan.home, 'log')}",
            )
        time.sleep(_LOOK)


def _connected(home: str) -> int:
    """How many nodes are there; -1: the controller does not answer yet."""
    try:
        with Client(devfiles.socket_path(home)) as client:
            return sum(1 for node in client.nodes() if node.connected)
    except CraneError:
        return -1


def _last_words(home: str, name: str) -> str:
    """The last line of a daemon's log."""
    try:
        with open(devfiles.path(home, "log", f"{name}.log"), "rb") as file:
            lines = file.read()[-4096:].decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"


def _welcome(plan: Plan) -> str:
    standard = os.path.abspath(os.path.expanduser("~/.crane/dev"))
    lines = [f"The cluster is up: {plan.nodes} node(s), files in {plan.home}."]
    if plan.home != standard or os.path.exists("/run/crane/cranectld.sock"):
        lines.append(f"Tell the commands:  export CRANE_HOME={plan.home}")
    lines += [
        "Try:                csub --wrap 'echo hello; sleep 5'; cqueue; cinfo",
        "End it:             crane down",
    ]
    return "\n".join(lines) + "\n"


def status(home: str) -> int:
    """Show what runs; fails if nothing does."""
    running = devfiles.processes(home)
    if not running:
        sys.stdout.write(f"No cluster runs in {home}.\n")
        return EXIT_FAILED
    sys.stdout.write(f"Cluster in {home}:\n")
    for process in running:
        kind = "controller" if process.name == "cranectld" else "agent"
        sys.stdout.write(f"  {process.name:<12} {kind:<11} pid {process.pid}\n")
    try:
        with Client(devfiles.socket_path(home)) as client:
            found = client.status()
            nodes = client.nodes()
    except CraneError as error:
        command.fail("crane", error)
        return error.exit_status
    counts = ", ".join(
        f"{count} {state.name.lower()}" for state, count in found.jobs.items() if count
    )
    planner = "ready" if found.planner_ready else "compiling its kernels"
    sys.stdout.write(f"  nodes: {sum(n.connected for n in nodes)} of {len(nodes)} connected\n")
    sys.stdout.write(f"  jobs: {counts or 'none'}; planner: {planner}\n")
    return EXIT_OK


def down(home: str, *, purge: bool) -> int:
    """End the cluster: jobs, agents, controller, in this order; then, if asked, its files."""
    running = devfiles.processes(home)
    if running:
        _end_jobs(home)
    left = _stop(home, running)
    if left:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in left)
        raise CraneError(ErrorCode.SYSTEM, f"these did not end: {names}", "see ps")
    from cli import devgroups

    for group in devgroups.remove(home):
        command.complain("crane", f"a cgroup could not be removed: {group}")
    if purge and os.path.exists(devfiles.path(home, "crane.toml")):
        import shutil

        shutil.rmtree(home)
    elif os.path.exists(devfiles.path(home, "processes")):
        os.unlink(devfiles.path(home, "processes"))
    sys.stdout.write("The cluster is down.\n" if running else f"No cluster runs in {home}.\n")
    return EXIT_OK


def _end_jobs(home: str) -> None:
    """Cancel every job and wait for those that run; what does not end now is killed later."""
    from crane.client.selection import Selection
    from crane.states import JobState

    states = tuple(state for state in JobState if not state.ended)
    try:
        with Client(devfiles.socket_path(home)) as client:
            client.cancel(Selection(states=states))
            running = tuple(state for state in states if state is not JobState.PENDING)
            _until(lambda: not list(client.jobs(Selection(states=running))), STOP_SECONDS)
    except CraneError as error:
        command.complain("crane", f"the jobs could not be cancelled: {error.message}")


def _stop(home: str, running: Sequence[Process]) -> list[Process]:
    """End the processes, agents first; SIGTERM, then SIGKILL. Those that are left."""
    agents = [process for process in running if process.name != "cranectld"]
    controller = [process for process in running if process.name == "cranectld"]
    for group in (agents, controller):
        _end(group)
    _end(devfiles.leftovers(home))
    return [*devfiles.leftovers(home), *(p for p in running if devfiles.alive(p))]


def _end(group: Sequence[Process]) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        for process in group:
            if devfiles.alive(process):
                _signal(process, number)
        if _until(lambda: not any(devfiles.alive(process) for process in group), seconds):
            return


def _signal(process: Process, number: signal.Signals) -> None:
    """Signal exactly this process: the descriptor cannot come to mean another one."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return  # it has just ended
    try:
        if devfiles.alive(process):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition that no event tells; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
    return True
