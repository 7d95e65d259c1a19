"""A launcher with its shims, driven from a test's thread, and cleaned up after."""

from __future__ import annotations

import asyncio
import glob
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from craned.exec.client import LauncherClient, LauncherOptions, Snapshot
from craned.exec.protocol import (
    Exited,
    Key,
    LaunchFailed,
    LaunchOrder,
    Report,
    Started,
)

_number = itertools.count()
DEADLINE = 30.0


class Host:
    """One agent's launcher. Reports are collected; `ended` waits for one."""

    def __init__(self, directory: str, cgroup: str, hold: float) -> None:
        self.directory = directory
        self.base = f"crane-test-{os.getpid()}-{next(_number)}"
        self.options = LauncherOptions(
            spool=f"{directory}/spool", cgroup=cgroup, cgroup_base=self.base, hold=hold
        )
        self.reports: list[Report] = []
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._job_ids = itertools.count(1)
        self.client: LauncherClient
        self.snapshot: Snapshot
        self.connect()

    def connect(self) -> Snapshot:
        self.client, self.snapshot = self.run(LauncherClient.start(self.options, self._take))
        return self.snapshot

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE)

    def call(self, function: Callable, *args, **kwargs) -> None:
        async def inside() -> None:
            function(*args, **kwargs)

        self.run(inside())

    def _take(self, reports: list[Report]) -> None:
        with self._news:
            self.reports.extend(reports)
            self._news.notify_all()

    def order(self, script: str | bytes = "", **fields) -> LaunchOrder:
        """A batch step in the host's directory, run by this process's own user.

        Text is the body of a shell script, bytes are a script as it is.
        """
        fields.setdefault("key", Key(next(self._job_ids), -1, 1))
        fields.setdefault("uid", os.getuid())
        fields.setdefault("gid", os.getgid())
        fields.setdefault("cwd", self.directory)
        fields.setdefault("env", b"PATH=/usr/bin:/bin")
        fields.setdefault("kill_grace", 0.3)
        if isinstance(script, bytes):
            fields["script"] = script
        elif script:
            fields["script"] = f"#!/bin/sh\n{script}\n".encode()
            fields.setdefault("stdout", self.path(f"{fields['key'].job_id}.out"))
        return LaunchOrder(**fields)

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def read(self, name: str) -> str:
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def launch(self, *orders: LaunchOrder) -> None:
        self.call(self.client.launch_many, orders)

    def finals(self, key: Key) -> list[Report]:
        return [r for r in self.reports if r.key == key and not isinstance(r, Started)]

    def wait(self, condition: Callable[[], object], what: str = "the condition") -> None:
        """Until it holds: asked again after every report, and every few milliseconds."""
        deadline = time.monotonic() + DEADLINE
        with self._news:
            while not condition():
                assert time.monotonic() < deadline, f"{what} did not come about: {self.reports}"
                self._news.wait(0.01)

    def ended(self, order: LaunchOrder | Key) -> Exited | LaunchFailed:
        key = order.key if isinstance(order, LaunchOrder) else order
        self.wait(lambda: self.finals(key), f"the end of {key}")
        report = self.finals(key)[0]
        assert not isinstance(report, Started)
        return report

    def run_step(self, order: LaunchOrder) -> Exited | LaunchFailed:
        self.launch(order)
        return self.ended(order)

    def wait_file(self, name: str, lines: int = 1) -> str:
        path = self.path(name)
        self.wait(
            lambda: os.path.exists(path) and self.read(name).count("\n") >= lines, f"file {name}"
        )
        return self.read(name)

    def launcher_pid(self) -> int:
        assert self.client._process is not None
        return self.client._process.pid

    def cgroups(self) -> list[str]:
        return glob.glob(f"/sys/fs/cgroup/*/{self.base}") + glob.glob(f"/sys/fs/cgroup/{self.base}")

    def close(self) -> None:
        try:
            self.run(self.client.close(kill=True))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _make_host(cgroup: str, hold: float = 0.0) -> Iterator[Host]:
    # Not tmp_path: its parents are closed to the ordinary users some of these jobs run as.
    directory = tempfile.mkdtemp(prefix="crane-exec-", dir="/tmp")
    os.chmod(directory, 0o711)
    host = Host(directory, cgroup, hold)
    try:
        yield host
        host.close()
        host.wait(lambda: not host.cgroups(), f"no cgroup is left: {host.cgroups()}")
        assert os.listdir(f"{directory}/spool/shims") == []
        assert host.read("spool/launcher.log") == ""
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["auto", "none"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A launcher with the best cgroups to be had, and one without any."""
    yield from _make_host(request.param)


@pytest.fixture
def plain_host() -> Iterator[Host]:
    """A launcher with the best cgroups to be had."""
    yield from _make_host("auto")


@pytest.fixture
def limited_host() -> Iterator[Host]:
    """A launcher that can limit memory; skipped where no cgroup is writable."""
    for host in _make_host("auto"):
        if host.client.cgroup_version == "none":
            host.close()
            pytest.skip("no writable cgroup with the memory controller on this host")
        yield host


@pytest.fixture
def root_host() -> Iterator[Host]:
    """A launcher that can serve several users."""
    if os.geteuid() != 0:
        pytest.skip("needs root: starts jobs of other users")
    yield from _make_host("auto")
