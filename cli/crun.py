"""`crun`: start tasks on the nodes of a job, and be their terminal."""

from __future__ import annotations

import os
import socket
import sys
import time

from cli import command
from crane import environment, options, request
from crane.errors import CraneError, ErrorCode, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cli.stepoutput import Sink
    from cli.steprun import Expected
    from crane.client.door import DoorTransport
    from crane.request import Request

USAGE = "crun [options] COMMAND [arguments...]"
EXAMPLES = """
Inside a job: start COMMAND as tasks on the job's nodes, and exit with the highest code of the tasks
(128 + signal). Outside: submit a job that does so, and show its output.

Standard input goes to all tasks, to one (--input 0), or to none (--input none). An interrupt tells
how things stand, a second one within a second ends the tasks; other signals are passed on.

Examples:
  crun -n 8 ./solver data.in
  crun -N 2 --ntasks-per-node 1 --label hostname
  crun --rendezvous torch -N 2 --ntasks-per-node 8 python train.py
"""
_BUSY_FIRST, _BUSY_LAST = 0.1, 2.0
"""Seconds between attempts while the CPUs are held by other steps."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return command.run("crun", _main, _help, argv)


def _help() -> str:
    return options.help_text(options.CRUN, USAGE) + EXAMPLES


def _main(argv: list[str]) -> int:
    given = options.parse_argv(argv, options.CRUN)
    if given.options.get("help"):
        sys.stdout.write(_help())
        return 0
    if given.options.get("version"):
        return command.run("crun", _main, _help, ["--version"])
    if not given.positionals:
        raise CraneError(ErrorCode.USAGE, "no command given", "crun -n 2 hostname")
    made = request.build(
        given,
        os.environ,
        tool=options.CRUN,
        work_dir=os.getcwd(),
        now_ns=time.time_ns(),
        submit_host=os.uname().nodename,
    )
    for notice in made.notices:
        command.complain("crun", notice)
    if made.flag("pty"):
        raise CraneError(
            ErrorCode.BAD_VALUE, "--pty: tasks cannot have a terminal yet", "leave it out"
        )
    job = made.tool.get("jobid") or _job_of(os.environ)
    if not job:
        from cli.outside import run_outside

        return run_outside(made, argv)
    return _in_job(made, job, os.environ)


def _job_of(environ: Mapping[str, str]) -> int:
    text = environ.get("CRANE_JOB_ID") or environ.get("SLURM_JOB_ID") or ""
    return int(text) if text.isascii() and text.isdigit() else 0


def _in_job(made: Request, job: int, environ: Mapping[str, str]) -> int:
    """Create the step through this host's daemon, then serve it until it has ended."""
    from cli.steprun import StepRun
    from cli.stepsignals import Signals

    ticket = os.urandom(16).hex().encode()
    target, mode, source = _stdin(made)
    door = _host_door(environ)
    listener, endpoint, cleanup = _listen(environ)
    try:
        with Signals() as caught:
            body = _request(made, job, environ, endpoint, ticket, mode)
            expected = _create(door, body, job, ticket)
            sinks = _sinks(made, expected, environ)
            run = StepRun(listener, expected, sinks, source, target)
            run.kill_on_bad_exit = made.flag("kill_on_bad_exit")
            return run.run(caught.wakeup, caught.take)
    finally:
        listener.close()
        cleanup()
        door.close()


def _host_door(environ: Mapping[str, str]) -> DoorTransport:
    from crane.client.door import DoorTransport

    path = environ.get("CRANE_HOST_SOCKET") or "/run/crane/craned.sock"
    try:
        return DoorTransport(path)
    except OSError as error:
        raise CraneError(
            ErrorCode.CONTROLLER_UNREACHABLE,
            f"the daemon of this host does not answer at {path}: {error.strerror}",
            "is craned running here? CRANE_HOST_SOCKET names its socket",
        ) from None


def _listen(environ: Mapping[str, str]) -> tuple[socket.socket, str, Any]:
    """A listening socket, how the shims reach it, and what to do with it at the end.

    A job of one node needs no network: a unix socket in a directory nobody else may enter.
    """
    nodes = environ.get("CRANE_JOB_NUM_NODES") or environ.get("SLURM_JOB_NUM_NODES") or "1"
    if nodes == "1":
        import tempfile

        folder = tempfile.mkdtemp(prefix="crun-")
        path = os.path.join(folder, "s")

        def remove() -> None:
            os.unlink(path)
            os.rmdir(folder)

        if len(path) < 100:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen(128)
            return listener, f"unix:{path}", remove
        os.rmdir(folder)
    host = _number_of(_own_address(environ))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind((host, 0))
    except OSError:
        # The address others use is not one of this host's own (it is translated).
        listener.bind(("", 0))
    listener.listen(1024)
    shown_host = f"[{host}]" if ":" in host else host
    return listener, f"{shown_host}:{listener.getsockname()[1]}", lambda: None


def _number_of(host: str) -> str:
    """The address as a number, IPv4 if there is one: the hosts of the step look up no names."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise CraneError(
            ErrorCode.BAD_CONFIG,
            f"the address of this host, {shown(host, 200)}, cannot be looked up: {error}",
            "set `address` of the node in the configuration to a number, or repair the name service",
        ) from None
    numbers = [str(address[0]) for *_, address in found]
    return next((number for number in numbers if ":" not in number), numbers[0])


def _own_address(environ: Mapping[str, str]) -> str:
    """How the job's other hosts reach this one."""
    if environ.get("CRANE_NODE_ADDRESS"):
        return environ["CRANE_NODE_ADDRESS"]
    if environ.get("CRANE_NODEID") == "0" and environ.get("CRANE_MASTER_ADDR"):
        return environ["CRANE_MASTER_ADDR"]
    return os.uname().nodename


def _stdin(made: Request) -> tuple[int, str, int]:
    """Rank standard input goes to, the mode the hosts are told, and the descriptor to read."""
    from crane.wire.stepio import ALL_TASKS

    text = made.spec.stdin
    if text == "none":
        return ALL_TASKS, "none", -1
    if text.isascii() and text.isdigit():
        return int(text[:9]), text, 0
    if text in {"", "all", "-"}:
        return ALL_TASKS, "all", 0
    path = os.path.join(made.spec.work_dir, text)
    try:
        return ALL_TASKS, "all", os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CraneError(
            ErrorCode.BAD_VALUE, f"--input: cannot read {shown(path, 200)}: {error.strerror}"
        ) from None


def _request(
    made: Request, job: int, environ: Mapping[str, str], endpoint: str, ticket: bytes, mode: str
) -> bytes:
    """The request for the step; what is not given is the job's."""
    from crane.client.newjob import own_umask, pack_environment
    from crane.wire import light

    part = made.spec.components[0]
    # The host adds the variables of job, step and task again, as they are for each of them.
    variables = environment.exported(made.spec.export, environ)
    variables |= dict.fromkeys(environment.UMASK_NAMES, f"{own_umask():04o}")
    body: bytes = light.message("CreateStepRequest")(
        job_id=job,
        ntasks=part.ntasks,
        min_nodes=part.min_nodes,
        ntasks_per_node=part.ntasks_per_node,
        cpus_per_task=part.cpus_per_task if part.cpus_given else 0,
        nodelist=list(part.nodelist),
        exclude=list(part.exclude),
        name=made.name or os.path.basename(made.args[0]),
        argv=list(made.args),
        environment=pack_environment(variables),
        work_dir=made.spec.work_dir,
        endpoint=endpoint,
        ticket=ticket,
        rendezvous=made.tool.get("rendezvous", ""),
        overlap=made.flag("overlap"),
        stdin_mode=mode,
    ).SerializeToString()
    return body


def _create(door: DoorTransport, body: bytes, job: int, ticket: bytes) -> Expected:
    """Create the step; while its CPUs are held by others, say so once and try again."""
    from cli.steprun import Expected
    from crane.client.transport import raise_error
    from crane.wire import light

    pause, told = _BUSY_FIRST, False
    while True:
        try:
            reply = light.message("CreateStepReply").FromString(door.call("CreateStep", body))
            raise_error(reply.error)
        except CraneError as error:
            if error.code is not ErrorCode.CONFLICT or (not told and not _running(job)):
                raise
            if not told:
                command.complain("crun", f"waiting: {error.message}")
                told = True
            time.sleep(pause)  # the daemon has no event for this: other steps come and go
            pause = min(2 * pause, _BUSY_LAST)
            continue
        return Expected(
            job, reply.step, reply.attempt, tuple(reply.nodes), ticket, sum(reply.tasks_per_node)
        )


def _running(job: int) -> bool:
    """Whether the job runs, as far as the controller can be asked from here."""
    from crane.client import Client

    try:
        with Client() as client:
            return any(found.state.name == "RUNNING" for found in client.jobs([job]))
    except CraneError:
        return True


def _sinks(made: Request, expected: Expected, environ: Mapping[str, str]) -> tuple[Sink, Sink]:
    from cli.stepoutput import sink
    from crane.filepattern import FileContext

    array = environ.get("CRANE_ARRAY_JOB_ID") or "0"
    task = environ.get("CRANE_ARRAY_TASK_ID") or "-1"
    contexts = {
        rank: FileContext(
            job_id=expected.job_id,
            array_job_id=int(array),
            task=int(task),
            step=expected.step,
            rank=rank,
            user=environ.get("CRANE_JOB_USER", ""),
            name=environ.get("CRANE_JOB_NAME", ""),
        )
        for rank in range(expected.ntasks)
    }
    width = len(str(max(expected.ntasks - 1, 0))) if made.flag("label") else 0
    spec = made.spec
    out = sink(spec.stdout, 1, spec.work_dir, spec.open_mode, contexts, width)
    if not spec.stderr and spec.stdout not in {"", "all"}:
        return out, out
    return out, sink(spec.stderr, 2, spec.work_dir, spec.open_mode, contexts, width)
