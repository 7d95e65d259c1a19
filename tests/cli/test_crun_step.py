"""`crun` inside a job, with a host's door and shims played by the test: the frames are real."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from crane.errors import CraneError, ErrorCode
from crane.v1 import agent_pb2 as pb
from crane.wire import stepio
from crane.wire.stepio import ALL_TASKS, DONE, EXIT, FAIL, HELLO, SIGNAL, STDERR, STDIN, STDOUT

LAYOUT = pb.CreateStepReply(step=0, nodes=["n1", "n2"], tasks_per_node=[2, 1], attempt=1)
RANKS = ((0, 1), (2,))


class Shim:
    """One host's end of a step's streams."""

    def __init__(
        self, request: pb.CreateStepRequest, node: int, ticket: bytes | None = None
    ) -> None:
        endpoint = request.endpoint
        if endpoint.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(endpoint[5:])
        else:
            host, _, port = endpoint.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(20)
        self.reader = stepio.FrameReader()
        self.frames: list[tuple[int, int, bytes]] = []
        hello = stepio.Hello(12, 0, 1, node, RANKS[node], ticket or request.ticket)
        self.send(HELLO, 0, stepio.encode_hello(hello))

    def send(self, kind: int, rank: int, payload: bytes) -> None:
        self.socket.sendall(stepio.frame(kind, rank, payload))

    def next(self) -> tuple[int, int, bytes]:
        while not self.frames:
            data = self.socket.recv(65536)
            if not data:
                return (0, 0, b"")
            self.frames += self.reader.feed(data)
        return self.frames.pop(0)

    def finish(self, *codes: tuple[int, int, int]) -> None:
        for rank, code, number in codes:
            self.send(EXIT, rank, bytes((code, number)))
        self.send(DONE, 0, b"")
        self.socket.shutdown(socket.SHUT_WR)
        while self.socket.recv(65536):
            pass  # closing with something unread would reset the connection
        self.socket.close()


class Host:
    """Plays the daemon and the shims for one crun; `play` runs in a thread once the step is made."""

    def __init__(self, controller, play) -> None:
        self.request: pb.CreateStepRequest | None = None
        self.errors: list[BaseException] = []
        self._play = play
        self._thread: threading.Thread | None = None
        controller.answers["CreateStep"] = self._create

    def _create(self, request: pb.CreateStepRequest) -> pb.CreateStepReply:
        self.request = request
        self._thread = threading.Thread(target=self._run, args=(request,))
        self._thread.start()
        return LAYOUT

    def _run(self, request: pb.CreateStepRequest) -> None:
        try:
            self._play(request)
        except Exception as error:  # noqa: BLE001 - shown by `join`
            self.errors.append(error)

    def join(self) -> None:
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert not self.errors, self.errors


@pytest.fixture
def in_job(controller, monkeypatch, tmp_path):
    """The environment of a job of two nodes on this host."""
    monkeypatch.setenv("CRANE_HOST_SOCKET", controller.path)
    monkeypatch.setenv("CRANE_JOB_ID", "12")
    monkeypatch.setenv("CRANE_JOB_NUM_NODES", "2")
    monkeypatch.setenv("CRANE_NODE_ADDRESS", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return controller


def crun(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    program = "from cli.crun import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_output_codes_and_the_request(in_job, monkeypatch):
    monkeypatch.setenv("OWN", "1")

    def play(request):
        first, second = Shim(request, 0), Shim(request, 1)
        first.send(STDOUT, 0, b"zero\n")
        second.send(STDERR, 2, b"two\n")
        second.finish((2, 0, 9))
        first.finish((0, 0, 0), (1, 7, 0))

    host = Host(in_job, play)
    out, err = crun(
        "-n", "3", "-N", "2", "-c", "2", "-J", "solve", "prog", "-x", "a b"
    ).communicate(timeout=30)
    host.join()

    assert out == "zero\n"
    assert err.splitlines() == [
        "two",
        "crun: error: n2: task 2: ended by signal 9",
        "crun: error: n1: task 1: exited with code 7",
    ]
    request = host.request
    assert (request.job_id, request.ntasks, request.min_nodes) == (12, 3, 2)
    assert (request.cpus_per_task, request.name, request.stdin_mode) == (2000, "solve", "all")
    assert list(request.argv) == ["prog", "-x", "a b"]
    assert b"OWN=1" in request.environment.split(b"\0")
    assert len(request.ticket) >= 32


def test_the_exit_status_is_the_highest_code(in_job):
    def play(request):
        Shim(request, 0).finish((0, 3, 0), (1, 0, 15))
        Shim(request, 1).finish((2, 0, 0))

    host = Host(in_job, play)
    process = crun("true")
    process.communicate(timeout=30)
    host.join()

    assert process.returncode == 128 + 15


def test_labels_keep_lines_whole(in_job):
    def play(request):
        first, second = Shim(request, 0), Shim(request, 1)
        first.send(STDOUT, 0, b"he")
        first.send(STDOUT, 1, b"one\nun")
        first.send(STDOUT, 0, b"llo\n")
        second.finish((2, 0, 0))
        first.finish((0, 0, 0), (1, 0, 0))

    host = Host(in_job, play)
    process = crun("--label", "true")
    out, err = process.communicate(timeout=30)
    host.join()

    assert (out, err, process.returncode) == ("1: one\n0: hello\n1: un\n", "", 0)


def test_standard_input_goes_to_all_tasks_and_ends(in_job):
    def play(request):
        shims = [Shim(request, node) for node in (0, 1)]
        for shim in shims:
            received, end = b"", False
            while not end:
                kind, rank, payload = shim.next()
                assert (kind, rank) == (STDIN, ALL_TASKS)
                received, end = received + payload, not payload
            assert received == b"x" * 300_000
        shims[0].finish((0, 0, 0), (1, 0, 0))
        shims[1].finish((2, 0, 0))

    host = Host(in_job, play)
    process = crun("cat", stdin=subprocess.PIPE)
    process.communicate("x" * 300_000, timeout=30)
    host.join()

    assert process.returncode == 0


def test_files_per_task(in_job, tmp_path):
    def play(request):
        first, second = Shim(request, 0), Shim(request, 1)
        first.send(STDOUT, 0, b"zero")
        second.send(STDOUT, 2, b"two")
        second.send(STDERR, 2, b"oops")
        first.finish((0, 0, 0), (1, 0, 0))
        second.finish((2, 0, 0))

    host = Host(in_job, play)
    crun("-o", "%j_%t.out", "-e", "all.err", "true").communicate(timeout=30)
    host.join()

    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {"12_0.out": "zero", "12_1.out": "", "12_2.out": "two", "all.err": "oops"}


def test_a_stranger_without_the_ticket_is_sent_away(in_job):
    def play(request):
        stranger = Shim(request, 0, ticket=b"0" * 32)
        stranger.send(STDOUT, 0, b"lies\n")
        assert stranger.next() == (0, 0, b"")
        stranger.socket.close()
        Shim(request, 0).finish((0, 0, 0), (1, 0, 0))
        Shim(request, 1).finish((2, 0, 0))

    host = Host(in_job, play)
    process = crun("true")
    out, _ = process.communicate(timeout=30)
    host.join()

    assert (out, process.returncode) == ("", 0)


def test_a_lost_host_ends_the_step(in_job):
    def play(request):
        first, second = Shim(request, 0), Shim(request, 1)
        second.socket.close()
        while (frame := first.next())[0] != SIGNAL:
            pass
        assert frame[2] == bytes((9,))
        first.finish((0, 0, 9), (1, 0, 9))

    host = Host(in_job, play)
    process = crun("sleep", "100")
    _, err = process.communicate(timeout=30)
    host.join()

    assert process.returncode == 128 + 9
    assert "n2: the connection was lost" in err


def test_a_host_that_cannot_start_the_step_is_told(in_job):
    def play(request):
        second = Shim(request, 1)
        second.send(FAIL, 0, b"no such program: nope")
        second.finish()
        Shim(request, 0).finish((0, 0, 0), (1, 0, 0))

    host = Host(in_job, play)
    process = crun("nope")
    _, err = process.communicate(timeout=30)
    host.join()

    assert process.returncode == 1
    assert "crun: error: n2: no such program: nope" in err


def test_signals_are_passed_on_and_two_interrupts_kill(in_job):
    reached = threading.Event()

    def next_signal(shim):
        while (frame := shim.next())[0] != SIGNAL:
            pass
        return frame[2][0]

    def play(request):
        first, second = Shim(request, 0), Shim(request, 1)
        # Signals are caught once a task's output has passed through.
        second.send(STDOUT, 2, b"ready\n")
        assert next_signal(first) == signal.SIGUSR1
        reached.set()
        assert next_signal(first) == signal.SIGKILL
        second.finish((2, 0, 9))
        first.finish((0, 0, 9), (1, 0, 9))

    host = Host(in_job, play)
    process = crun("sleep", "100")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert reached.wait(20)
    process.send_signal(signal.SIGINT)
    assert "interrupt again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    host.join()

    assert process.returncode == 137


def test_busy_cpus_are_waited_for(in_job):
    def play(request):
        Shim(request, 0).finish((0, 0, 0), (1, 0, 0))
        Shim(request, 1).finish((2, 0, 0))

    host = Host(in_job, play)
    make = in_job.answers["CreateStep"]
    refusals = iter([CraneError(ErrorCode.CONFLICT, "the CPUs on node n1 are busy")] * 2)
    in_job.answers["CreateStep"] = lambda request: next(refusals, None) or make(request)
    in_job.answers["ListJobs"] = lambda _: _running()
    process = crun("true")
    _, err = process.communicate(timeout=30)
    host.join()

    assert process.returncode == 0
    assert err == "crun: waiting: the CPUs on node n1 are busy\n"
    assert len(in_job.asked("CreateStep")) == 3


def _running():
    from crane.v1 import control_pb2

    return control_pb2.ListJobsReply(jobs=[{"job_id": 12, "state": 2}])


def test_the_hosts_are_told_a_number_for_a_name(in_job, monkeypatch):
    monkeypatch.setenv("CRANE_NODE_ADDRESS", "localhost")
    told = []

    def play(request):
        told.append(request.endpoint.rpartition(":")[0])
        Shim(request, 0).finish((0, 0, 0), (1, 0, 0))
        Shim(request, 1).finish((2, 0, 0))

    host = Host(in_job, play)
    process = crun("true")
    process.communicate(timeout=30)
    host.join()

    assert process.returncode == 0
    assert told[0] in {"127.0.0.1", "[::1]"}


def test_an_address_nobody_knows_is_named(in_job, monkeypatch):
    monkeypatch.setenv("CRANE_NODE_ADDRESS", "no such host")
    process = crun("true")
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "no such host" in err


def test_a_job_of_one_node_uses_a_private_socket(in_job, monkeypatch):
    monkeypatch.setenv("CRANE_JOB_NUM_NODES", "1")
    folders = []

    def play(request):
        assert request.endpoint.startswith("unix:")
        folders.append(os.path.dirname(request.endpoint[5:]))
        assert os.stat(folders[0]).st_mode & 0o077 == 0
        Shim(request, 0).finish((0, 0, 0), (1, 0, 0))
        Shim(request, 1).finish((2, 0, 0))

    host = Host(in_job, play)
    process = crun("true")
    process.communicate(timeout=30)
    host.join()

    assert process.returncode == 0
    assert not os.path.exists(folders[0])


def test_a_host_without_a_daemon(in_job, monkeypatch, tmp_path):
    monkeypatch.setenv("CRANE_HOST_SOCKET", str(tmp_path / "none"))
    started = time.monotonic()
    process = crun("true")
    _, err = process.communicate(timeout=30)

    assert process.returncode == 3
    assert "does not answer" in err
    assert time.monotonic() - started < 20
