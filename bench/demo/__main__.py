"""Run the demonstration: `python -m bench.demo`. Exit status 0 when everything was as it should be.

It needs no root, no configuration and no running cluster: all it makes is in a directory of its own,
which it removes. Interrupted or failed, it cleans up as well.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from types import FrameType

from bench.demo import remains, scenes
from bench.demo.stage import DemoError, Stage, commands_directory, environment
from crane.client import Client
from crane.errors import CraneError

UP = (
    "crane up --nodes 3 --cpus 4 --mem 1G"
    " --node-gres 2:gpu:a100:2 --node-gres 3:npu:910b3:4"
)  # fmt: skip
COMPILE_SECONDS = 300.0
LOAD_SECONDS = 3.0
"""Kernels that are not loaded by then are being compiled."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK = 0.1
_HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """The demonstration, and its cleaning up whatever happens."""
    for number in _ENDING:
        signal.signal(number, _interrupted)
    top = tempfile.mkdtemp(prefix="crane-demo-")
    home, work, temporary = (os.path.join(top, name) for name in ("cluster", "work", "tmp"))
    environ = environment(os.environ, home, temporary, commands_directory())
    stage = Stage(work, environ, sys.stdout)
    began = time.monotonic()
    try:
        os.mkdir(temporary)
        _prepare(work)
        began = _start(stage, home, work)
        scenes.play(scenes.Demo(stage, work))
    except (DemoError, CraneError) as error:
        stage.require("the demonstration ran to its end", False, str(error))
        _show_logs(stage, home)
    except KeyboardInterrupt:
        stage.require("the demonstration ran to its end", False, "interrupted")
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        _clean_up(stage, top, home, temporary)
    return stage.summary(time.monotonic() - began)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _prepare(work: str) -> None:
    """Copies of the jobs and of their input, for the person to work with."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(os.path.join(_HERE, "jobs"), os.path.join(work, "jobs"), ignore=skip)
    shutil.copytree(os.path.join(os.path.dirname(_HERE), "data"), os.path.join(work, "data"))


def _start(stage: Stage, home: str, work: str) -> float:
    """Start the cluster; when (monotonic) it was ready. Raises DemoError, CraneError."""
    stage.title("A controller and three agents on this machine")
    stage.say(
        "One node has two GPU slots, another four NPU slots, with plain files as their devices. "
        f"Jobs and data are copied to {work}; the scripts are in bench/demo/jobs."
    )
    if stage.run(UP).status != 0:
        raise DemoError("the cluster did not start")
    began, told = time.monotonic(), False
    with Client(os.path.join(home, "cranectld.sock")) as client:
        while not client.status().planner_ready:
            waited = time.monotonic() - began
            if waited > COMPILE_SECONDS:
                raise DemoError(f"the kernels were not ready after {COMPILE_SECONDS:g} s")
            if waited > LOAD_SECONDS and not told:
                told = True
                stage.say(
                    "The first start of a version compiles the scheduling kernels and keeps them: "
                    "about a minute, more on a busy machine."
                )
            time.sleep(_LOOK)
    return time.monotonic()


def _clean_up(stage: Stage, top: str, home: str, temporary: str) -> None:
    """Take the cluster down and check that nothing of it is left."""
    try:
        before = remains.traces(home, top)
        if os.path.isdir(home):
            stage.title("The end")
            stage.run("crane down --purge")
        found = remains.left(before, top)
        found += [f"directory {home}"] if os.path.exists(home) else []
        if os.path.isdir(temporary):
            found += [f"temporary file {name}" for name in sorted(os.listdir(temporary))]
        stage.require(
            "no process, control group, socket, port or file of the cluster is left"
            f" (there were {len(before.processes)} processes, {len(before.groups)} groups,"
            f" {len(before.sockets)} sockets)",
            not found,
            "; ".join(found),
        )
    except DemoError as error:
        stage.require("the cluster was taken down", False, str(error))
    finally:
        shutil.rmtree(top, ignore_errors=True)
    stage.require("the demonstration's directory is gone", not os.path.exists(top), top)


def _show_logs(stage: Stage, home: str) -> None:
    """The last lines of the daemons' logs, which are about to be removed."""
    folder = os.path.join(home, "log")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        stage.run(f"tail -n 5 {os.path.join(folder, name)}")


if __name__ == "__main__":
    sys.exit(main())
