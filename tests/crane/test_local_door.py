"""The local door as a server: what it holds on to, and what it lets go."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket

import pytest

from crane.auth import door
from crane.auth.door import DoorServer
from crane.auth.quota import Quota
from crane.client import batch
from crane.client.door import DoorTransport
from crane.config.model import Limits
from crane.config.schema import LIMITS
from crane.errors import CraneError, ErrorCode
from crane.v1 import types_pb2
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.frames import LENGTH, MAX_REQUEST, frame


@contextlib.asynccontextmanager
async def serving(path, quota=None, trouble=None):
    async def whoami(peer, body):
        return f"{peer.uid} {body.decode()}".encode()

    async def ticks(peer, body):
        while True:
            yield bytes(1 << 16)

    crashes = []
    server = DoorServer(
        path,
        {"Who": whoami},
        {"Ticks": ticks},
        lambda *it: (crashes if trouble is None else trouble).append(it),
        quota=quota,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.close()
        assert not crashes
        assert not os.path.exists(path)


async def ask(path, method):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(frame(DoorRequest(id=7, method=method, body=b"me").SerializeToString()))
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    reply = DoorReply.FromString(await reader.readexactly(length))
    return reply, writer


@pytest.fixture
def path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("d") / "s")


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_taken_as_the_door_closes_is_closed_too(path, turns):
    async def run():
        with contextlib.ExitStack() as clients:
            async with serving(path):
                for _ in range(5):
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(path)
                for _ in range(turns):
                    await asyncio.sleep(0)

    asyncio.run(run())
    gc.collect()  # a socket nobody closed warns here, and a warning is an error


def test_a_request_that_is_too_long_is_refused_before_it_is_read(path):
    async def run():
        async with serving(path):
            for length in (MAX_REQUEST + 1, 2**32 - 1):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(LENGTH.pack(length))
                (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                reply = DoorReply.FromString(await reader.readexactly(size))
                assert reply.error.code == types_pb2.ERROR_CODE_LIMIT_EXCEEDED
                assert "at most" in reply.error.message
                assert await reader.read() == b"", "and the connection ends"
                writer.close()
                await writer.wait_closed()
            reply, writer = await ask(path, "Who")
            assert reply.body.endswith(b" me")
            writer.close()
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_what_the_client_library_sends_at_once_is_well_within_the_bound():
    whole = Limits()
    assert batch.BATCH_BYTES + whole.max_script + whole.max_environment < MAX_REQUEST // 2
    (script,) = (key for key in LIMITS if key.name == "max_script")
    (environment,) = (key for key in LIMITS if key.name == "max_environment")
    assert script.high + environment.high <= MAX_REQUEST // 2


def test_the_client_does_not_begin_to_send_what_would_be_refused(path):
    async def run():
        async with serving(path):
            return await asyncio.to_thread(send, bytes(MAX_REQUEST))

    def send(body):
        with contextlib.closing(DoorTransport(path)) as transport:
            with pytest.raises(CraneError) as refused:
                transport.call("Who", body)
            return refused.value.code, transport.call("Who", b"me").endswith(b" me")

    assert asyncio.run(asyncio.wait_for(run(), 30)) == (ErrorCode.LIMIT_EXCEEDED, True)


def test_a_client_that_never_reads_does_not_hold_up_the_end(path):
    async def run():
        async with serving(path):
            _, writer = await ask(path, "Ticks")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_without_descriptors_the_door_waits_and_goes_on(path, monkeypatch):
    monkeypatch.setattr(door, "ACCEPT_PAUSE", 0.05)

    async def run():
        trouble = []
        async with serving(path, trouble=trouble):
            client = socket.socket(socket.AF_UNIX)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
            try:
                client.connect(path)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            reply, writer = await ask(path, "Who")
            assert reply.body.decode() == f"{os.geteuid()} me"
            writer.close()
            await writer.wait_closed()
            client.close()
        assert [(what, error.errno) for what, error in trouble] == [("accept", errno.EMFILE)]

    asyncio.run(asyncio.wait_for(run(), 30))


class Told(list):
    """What a door reports, and an event that it did."""

    def __init__(self):
        self.event = asyncio.Event()

    def append(self, it):
        super().append(it)
        self.event.set()


def test_a_listening_socket_that_fails_is_told_of_once_and_not_asked_all_the_time(path):
    async def run():
        loop = asyncio.get_running_loop()
        trouble = Told()
        near, far = socket.socketpair()
        async with serving(path, trouble=trouble) as server:
            # given a readable socket that cannot accept: accept(2) fails with EINVAL
            listening = server._listening
            loop.remove_reader(listening)
            os.dup2(near.fileno(), listening.fileno())
            far.send(b"x")
            loop.add_reader(listening, server._accept, listening)
            await trouble.event.wait()
            assert not loop.remove_reader(listening), "it is left alone for a while"
            server._accept(listening)
        near.close()
        far.close()
        assert [(what, error.errno) for what, error in trouble] == [("accept", errno.EINVAL)]

    asyncio.run(asyncio.wait_for(run(), 30))


async def announce(path, length, body=b""):
    """Begin a request of `length` bytes."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(LENGTH.pack(length) + body)
    await writer.drain()
    return reader, writer


async def refusal(reader):
    """The error that ended the connection."""
    (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    reply = DoorReply.FromString(await reader.readexactly(size))
    assert reply.id == 0
    assert await reader.read() == b"", "and the connection ends"
    return reply.error


async def closed(*writers):
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def strict(**given):
    """A quota without exceptions for the user of these tests."""
    return Quota(trusted=(), **given)


def test_unfinished_requests_of_one_user_are_bounded_and_given_back(path):
    size, body = 1 << 20, b"x"

    async def run():
        async with serving(path, strict(request_bytes=2 * size)):
            # given as many bytes announced as one user may have
            held = [await announce(path, size, body * (size - 1)) for _ in range(2)]
            first, second = held
            reader, writer = await announce(path, size)
            error = await refusal(reader)
            assert error.code == types_pb2.ERROR_CODE_LIMIT_EXCEEDED
            assert f"at most {2 * size} are allowed" in error.message
            # then small requests are served all the same
            reply, small = await ask(path, "Who")
            assert reply.body.endswith(b" me")
            # and when one is given up, there is room again
            await closed(first[1], writer, small)
            request = DoorRequest(id=1, method="Who", body=body * (size - 20)).SerializeToString()
            while True:
                reader, writer = await announce(path, len(request), request)
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                reply = DoorReply.FromString(await reader.readexactly(length))
                await closed(writer)
                if reply.id == 1:
                    break
            await closed(second[1])

    asyncio.run(asyncio.wait_for(run(), 30))


def test_answered_requests_are_no_longer_counted(path):
    async def run():
        quota = strict(request_bytes=1 << 20)
        async with serving(path, quota):
            return await asyncio.to_thread(many, bytes(700_000)), quota._bytes

    def many(body):
        with contextlib.closing(DoorTransport(path)) as transport:
            return [len(transport.call("Who", body)) > len(body) for _ in range(3)]

    assert asyncio.run(asyncio.wait_for(run(), 30)) == ([True] * 3, {})


def test_a_request_that_does_not_come_to_its_end_is_given_up(path, monkeypatch):
    monkeypatch.setattr(door, "READ_TIME", 0.1)

    async def run():
        async with serving(path):
            idle_reader, idle = await asyncio.open_unix_connection(path)
            for begun in (LENGTH.pack(5)[:2], LENGTH.pack(5) + b"abc"):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(begun)
                error = await refusal(reader)
                assert error.code == types_pb2.ERROR_CODE_TIMED_OUT
                await closed(writer)
            # a connection that has not begun one stays
            idle.write(frame(DoorRequest(id=3, method="Who", body=b"me").SerializeToString()))
            (length,) = LENGTH.unpack(await idle_reader.readexactly(LENGTH.size))
            assert DoorReply.FromString(await idle_reader.readexactly(length)).id == 3
            await closed(idle)

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("body", [b"me", bytes(1 << 22)], ids=["small", "more than a buffer"])
def test_a_client_that_is_one_too_many_learns_so(path, body):
    async def run():
        async with serving(path, strict(connections=1)):
            _, writer = await ask(path, "Who")
            told = await asyncio.to_thread(one_more)
            await closed(writer)
            return told

    def one_more():
        with contextlib.closing(DoorTransport(path)) as transport:
            with pytest.raises(CraneError) as refused:
                transport.call("Who", body)
            return refused.value

    error = asyncio.run(asyncio.wait_for(run(), 30))
    assert error.code is ErrorCode.LIMIT_EXCEEDED
    assert "at most 1 are allowed" in error.message
    assert error.hint


def test_a_client_reports_why_its_large_request_was_not_taken(path):
    async def run():
        async with serving(path, strict(request_bytes=1 << 20)):
            return await asyncio.to_thread(send)

    def send():
        with contextlib.closing(DoorTransport(path)) as transport:
            with pytest.raises(CraneError) as refused:
                list(transport.pipeline("Who", [b"me", bytes(1 << 23), b"you"]))
            return refused.value.code

    assert asyncio.run(asyncio.wait_for(run(), 30)) is ErrorCode.LIMIT_EXCEEDED


def test_root_and_the_daemons_own_user_may_have_more():
    quota = Quota(connections=1, request_bytes=100_000, trusted=(7,))
    for _ in range(3):
        quota.connect(7)
    quota.connect(8)
    with pytest.raises(CraneError):
        quota.connect(8)
    with contextlib.ExitStack() as held:
        for uid, size in ((7, 200_000), (8, 100_000), (9, 100_000)):
            held.enter_context(quota.request(uid, size))
        with pytest.raises(CraneError):
            held.enter_context(quota.request(8, 65_537))
    quota.disconnect(8)
    quota.connect(8)
