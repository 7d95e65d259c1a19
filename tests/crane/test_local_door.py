"""The local door as a server: what it holds on to, and what it lets go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket

import pytest

from crane.auth import door
from crane.auth.door import DoorServer
from crane.client import batch
from crane.client.door import DoorTransport
from crane.config.model import Limits
from crane.config.schema import LIMITS
from crane.errors import CraneError, ErrorCode
from crane.v1 import types_pb2
from crane.v1.door_pb2 import DoorReply, DoorRequest
from crane.wire.frames import LENGTH, MAX_REQUEST, frame


@contextlib.asynccontextmanager
async def serving(path):
    async def whoami(peer, body):
        return f"{peer.uid} {body.decode()}".encode()

    async def ticks(peer, body):
        while True:
            yield bytes(1 << 16)

    crashes = []
    server = DoorServer(path, {"Who": whoami}, {"Ticks": ticks}, lambda *it: crashes.append(it))
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
        async with serving(path):
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

    asyncio.run(asyncio.wait_for(run(), 30))
