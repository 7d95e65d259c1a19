"""Steps of several tasks whose streams go to a waiting crun."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import threading
import time

import pytest

from craned.exec import relay
from craned.exec.protocol import CONNECT, NULL, Cause, Exited, Key, LaunchFailed


class Crun:
    """The waiting end of one connection: a listener that collects frames."""

    def __init__(self, family: int = socket.AF_INET, address="127.0.0.1") -> None:
        self.listener = socket.socket(family)
        self.listener.bind((address, 0) if family == socket.AF_INET else address)
        self.listener.listen(4)
        self.listener.settimeout(20)
        name = self.listener.getsockname()
        self.address = f"{name[0]}:{name[1]}" if family == socket.AF_INET else f"unix:{name}"
        self.frames: list[tuple[int, int, bytes]] = []
        self.sock: socket.socket | None = None
        self.reading = threading.Event()
        self.reading.set()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.sock, _ = self.listener.accept()
        except OSError:
            return
        stream = self.sock.makefile("rb")
        while self.reading.wait(20) and (head := stream.read(relay.HEADER.size)):
            kind, rank, length = relay.HEADER.unpack(head)
            self.frames.append((kind, rank, stream.read(length)))
            if kind == relay.DONE:
                break
        stream.close()
        self.sock.close()

    def send(self, kind: int, rank: int, payload: bytes) -> None:
        deadline = time.monotonic() + 20
        while self.sock is None and time.monotonic() < deadline:
            self.thread.join(0.01)
        assert self.sock is not None
        self.sock.sendall(relay.HEADER.pack(kind, rank, len(payload)) + payload)

    def output(self, kind: int, rank: int) -> bytes:
        return b"".join(data for k, r, data in self.frames if (k, r) == (kind, rank))

    def done(self) -> None:
        self.thread.join(20)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.reading.set()
        self.listener.close()
        if self.sock is not None:
            self.sock.close()
        self.thread.join(20)


@pytest.fixture
def crun():
    waiting = Crun()
    yield waiting
    waiting.close()


def step(host, crun, command: str, **fields):
    return host.order(
        key=Key(7, 0, 1), argv=("sh", "-c", command), connect=crun.address, ticket="secret",
        **({"stdin": CONNECT, "stdout": CONNECT, "stderr": CONNECT} | fields),
    )  # fmt: skip


def test_each_task_has_its_rank_and_its_own_streams(host, crun):
    order = step(
        host, crun, "echo out $R $L; echo err $R >&2; exit $R", stdin=NULL, ranks=(2, 5),
        task_env=("R={rank}", "L={local}"), node_id=1,
    )  # fmt: skip
    report = host.run_step(order)
    crun.done()
    assert isinstance(report, Exited)
    assert (report.exit_code, report.signal) == (5, 0)
    kind, _, hello = crun.frames[0]
    assert kind == relay.HELLO
    assert struct.unpack_from("!qiIII2I", hello) == (7, 0, 1, 1, 2, 2, 5)
    assert hello.endswith(b"secret")
    assert crun.output(relay.STDOUT, 2) == b"out 2 0\n"
    assert crun.output(relay.STDOUT, 5) == b"out 5 1\n"
    assert crun.output(relay.STDERR, 5) == b"err 5\n"
    assert {(r, data) for k, r, data in crun.frames if k == relay.EXIT} == {
        (2, b"\x02\x00"), (5, b"\x05\x00"),
    }  # fmt: skip
    assert crun.frames[-1][0] == relay.DONE


def test_input_goes_to_one_task_or_to_all_and_ends(host, crun):
    order = step(host, crun, "cat", ranks=(0, 1))
    host.launch(order)
    crun.send(relay.STDIN, relay.ALL_TASKS, b"all\n")
    crun.send(relay.STDIN, 1, b"only one\n")
    crun.send(relay.STDIN, relay.ALL_TASKS, b"")
    assert host.ended(order).exit_code == 0
    crun.done()
    assert crun.output(relay.STDOUT, 0) == b"all\n"
    assert crun.output(relay.STDOUT, 1) == b"all\nonly one\n"


def test_much_data_passes_unchanged_both_ways(host, crun):
    data = bytes(range(256)) * 4096 * 8
    order = step(host, crun, "cat")
    host.launch(order)
    for at in range(0, len(data), 1 << 16):
        crun.send(relay.STDIN, 0, data[at : at + (1 << 16)])
    crun.send(relay.STDIN, 0, b"")
    assert host.ended(order).exit_code == 0
    crun.done()
    assert crun.output(relay.STDOUT, 0) == data


def test_output_written_just_before_the_end_is_not_lost(host, crun):
    order = step(host, crun, "head -c 3000000 /dev/zero", stdin=NULL)
    assert host.run_step(order).exit_code == 0
    crun.done()
    assert len(crun.output(relay.STDOUT, 0)) == 3_000_000


def test_a_task_ended_by_a_signal_counts_as_128_and_more(host, crun):
    order = step(host, crun, "[ $R = 1 ] && kill -15 $$; exit 3", stdin=NULL, ranks=(0, 1),
                 task_env=("R={rank}",))  # fmt: skip
    report = host.run_step(order)
    assert (report.exit_code, report.signal) == (143, 15)
    crun.done()


def test_crun_can_signal_the_tasks(host, crun):
    order = step(host, crun, "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done",
                 stdin=NULL)  # fmt: skip
    host.launch(order)
    host.wait(lambda: crun.output(relay.STDOUT, 0) == b"up\n")
    crun.send(relay.SIGNAL, 0, bytes((10,)))
    assert host.ended(order).exit_code == 9


def test_a_step_whose_crun_is_gone_is_cancelled(host, crun):
    order = step(host, crun, "echo up; sleep 67", stdin=NULL)
    host.launch(order)
    host.wait(lambda: crun.output(relay.STDOUT, 0) == b"up\n")
    assert crun.sock is not None
    crun.sock.shutdown(socket.SHUT_RDWR)
    report = host.ended(order)
    assert report.cause is Cause.CANCELLED
    assert "crun" in report.message


def test_a_command_that_is_not_there_is_told_to_crun_as_well(host, crun):
    order = step(host, crun, "true")
    object.__setattr__(order, "argv", ("no-such-command",))
    report = host.run_step(order)
    assert isinstance(report, LaunchFailed)
    crun.done()
    assert [k for k, _, _ in crun.frames] == [relay.HELLO, relay.FAIL, relay.DONE]
    assert b"no-such-command" in crun.frames[1][2]


def test_a_crun_that_cannot_be_reached_is_a_launch_failure(host):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    order = host.order(argv=("true",), stdout=CONNECT, connect=f"127.0.0.1:{port}")
    report = host.run_step(order)
    assert isinstance(report, LaunchFailed)
    assert report.code == "connect"


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:9",
        "127.0.0.1:65536",
        "127.0.0.1:\u00b2",
        "127.0.0.1:",
        "127.0.0.1",
        ":1",
        "unix:",
    ],
)
def test_an_endpoint_that_is_no_address_is_a_launch_failure(plain_host, endpoint):
    report = plain_host.run_step(plain_host.order(argv=("true",), stdout=CONNECT, connect=endpoint))
    assert isinstance(report, LaunchFailed)
    assert report.code == "connect"


def test_a_step_has_more_tasks_than_a_program_may_open_files(plain_host, crun):
    # Given a launcher that was started with a usual, small soft limit (and another hard one).
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        before = plain_host.launcher_pid()
        os.kill(before, signal.SIGKILL)
        plain_host.wait(lambda: plain_host.launcher_pid() != before, "another launcher")
        batch = plain_host.order("ulimit -Sn; ulimit -Hn")
        assert plain_host.run_step(batch).exit_code == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    ranks = tuple(range(60))
    order = step(plain_host, crun, "ulimit -Sn", ranks=ranks)
    host_report = plain_host.run_step(order)
    crun.done()
    assert isinstance(host_report, Exited), host_report
    # Then all of its tasks run, each with the usual limit, however it is started.
    assert [crun.output(relay.STDOUT, rank) for rank in ranks] == [b"128\n"] * 60
    assert plain_host.read(f"{batch.key.job_id}.out").split()[0] == "128"


def test_tasks_there_is_no_room_for_are_a_failure_of_their_own(plain_host, crun):
    plain_host.run_step(plain_host.order("exit 0"))
    names = os.listdir(plain_host.path("spool/shims"))
    shim = next(int(name[:-5]) for name in names if name.endswith(".sock"))
    hard = resource.prlimit(shim, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (64, hard))
    report = plain_host.run_step(step(plain_host, crun, "sleep 60", ranks=tuple(range(40))))
    crun.done()
    assert isinstance(report, LaunchFailed)
    assert report.code == "tasks"
    assert "Too many open files" in report.message
    assert [kind for kind, _, _ in crun.frames][-2:] == [relay.FAIL, relay.DONE]
    assert plain_host.run_step(plain_host.order("exit 3")).exit_code == 3


def test_a_unix_socket_serves_as_well(host):
    waiting = Crun(socket.AF_UNIX, host.path("crun.sock"))
    try:
        order = step(host, waiting, "echo hello", stdin=NULL)
        assert host.run_step(order).exit_code == 0
        waiting.done()
        assert waiting.output(relay.STDOUT, 0) == b"hello\n"
    finally:
        waiting.close()


def test_tasks_may_write_files_of_their_own_rank(host):
    order = host.order(
        key=Key(8, 0, 1), argv=("sh", "-c", "echo I am $R"), ranks=(3, 4),
        task_env=("R={rank}",), stdout=host.path("out.%t"),
    )  # fmt: skip
    assert host.run_step(order).exit_code == 0
    assert (host.read("out.3"), host.read("out.4")) == ("I am 3\n", "I am 4\n")


def test_a_crun_that_stops_reading_slows_the_step_and_loses_nothing(host, crun):
    crun.reading.clear()
    order = step(host, crun, "head -c 12000000 /dev/zero; echo end >&2", stdin=NULL)
    host.launch(order)
    host.wait(lambda: crun.sock is not None)
    crun.reading.set()
    assert host.ended(order).exit_code == 0
    crun.done()
    assert len(crun.output(relay.STDOUT, 0)) == 12_000_000
    assert crun.output(relay.STDERR, 0) == b"end\n"


def test_a_step_can_be_cancelled_while_its_crun_does_not_read(host, crun):
    crun.reading.clear()
    order = step(host, crun, "echo > up; exec cat /dev/zero", stdin=NULL)
    host.launch(order)
    host.wait_file("up")
    host.call(host.client.kill, order.key, 15, 0.2, Cause.CANCELLED)
    assert host.ended(order).cause is Cause.CANCELLED
