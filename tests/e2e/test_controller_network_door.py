"""The TCP door: what callers can make the controller hold."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from crane.v1 import control_pb2 as pb
from cranectld.rpc import grpc_server


def opened(channel, method, *metadata):
    """A call whose request does not come."""
    call = channel.stream_unary(f"/crane.v1.Control/{method}")
    return call(metadata=metadata)


@pytest.mark.parametrize("method", ["SubmitJobs", "WatchEvents", "IssueToken"])
def test_a_caller_without_a_token_is_refused_before_the_request_is_read(site, kit, method):
    async def run():
        async with (
            site.daemon() as daemon,
            grpc.aio.insecure_channel(f"127.0.0.1:{daemon.port}") as channel,
        ):
            code = await asyncio.wait_for(opened(channel, method).code(), kit.deadline)
            assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

    asyncio.run(run())


def test_requests_that_do_not_come_wait_in_line_and_are_given_up(site, kit, monkeypatch):
    monkeypatch.setattr(grpc_server, "READ_TIME", 0.1)

    async def run():
        async with (
            site.daemon() as daemon,
            grpc.aio.insecure_channel(f"127.0.0.1:{daemon.port}") as channel,
        ):
            token = ("crane-token-bin", kit.token(site.key))
            calls = [
                opened(channel, "SubmitJobs", token) for _ in range(grpc_server.READ_AT_ONCE + 1)
            ]
            codes = await asyncio.wait_for(
                asyncio.gather(*(call.code() for call in calls)), kit.deadline
            )
            assert len(dict.fromkeys(codes)) == 1
            assert codes[0] is not grpc.StatusCode.OK
            details = await calls[-1].details()
            assert "not complete" in details
            # and the caller's next request is served
            get = channel.unary_unary("/crane.v1.Control/ListJobs")
            body = await get(kit.all().SerializeToString(), metadata=(token,))
            assert not pb.ListJobsReply.FromString(body).jobs

    asyncio.run(run())


def test_one_connection_has_so_many_calls_and_not_more(site, kit):
    async def run():
        async with (
            site.daemon() as daemon,
            grpc.aio.insecure_channel(f"127.0.0.1:{daemon.port}") as channel,
        ):
            token = ("crane-token-bin", kit.token(site.key))
            watch = channel.unary_stream("/crane.v1.Control/WatchEvents")
            held = [watch(b"", metadata=(token,)) for _ in range(grpc_server.MAX_STREAMS)]
            await asyncio.gather(*(call.wait_for_connection() for call in held[:1]))
            get = channel.unary_unary("/crane.v1.Control/ListJobs")
            one_more = get(kit.all().SerializeToString(), metadata=(token,), timeout=1)
            assert await one_more.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            held[0].cancel()
            again = get(kit.all().SerializeToString(), metadata=(token,), timeout=kit.deadline)
            assert await again.code() is grpc.StatusCode.OK
            for call in held:
                call.cancel()

    asyncio.run(run())
