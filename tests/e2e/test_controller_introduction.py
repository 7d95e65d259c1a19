"""Who is registered: only an agent that is there now, whatever the network brings late."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from crane.states import JobState, NodeState
from crane.v1 import agent_pb2
from crane.v1 import types_pb2 as types
from cranectld.core.identity import Principal
from cranectld.rpc import agents

ALICE = Principal(1001, 1001, "alice")
PATIENCE = 0.3


@asynccontextmanager
async def agent(site, kit, daemon, **how):
    peer = kit.agent(daemon.port, site.key, **how)
    try:
        yield peer
    finally:
        await peer.close()


async def run_a_job(kit, daemon, peer):
    """Have one started on the peer's node."""
    request = kit.jobs("a").SerializeToString()
    await daemon.control.call("SubmitJobs", ALICE, request)
    assert await daemon.loop.submit(kit.start(1)) == 1
    await peer.hear_until(lambda message: message.orders)


async def over(peer):
    """Wait until the controller has closed the stream."""
    try:
        while await peer.hear() is not None:
            pass
    except grpc.aio.AioRpcError:
        return


@pytest.mark.parametrize("boot", ["boot-1", "an earlier boot"])
def test_a_hello_alone_changes_nothing(site, kit, boot):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon, boot=boot) as late:
            # given a Hello that was answered, by whom nobody knows
            assert not (await late.introduce()).error.message
            assert daemon.loop.state.nodes["n1"].state is NodeState.UNKNOWN
            assert daemon._contacts.last_heard("n1") == 0
            async with agent(site, kit, daemon) as live:
                await live.hello()
                await run_a_job(kit, daemon, live)
                # when more of its kind arrive beside a live session
                async with agent(site, kit, daemon, boot=boot) as later:
                    await later.introduce()
                    # then that goes on, and its job with it
                    await live.say()
                    assert (await live.hear()).heard
                    assert daemon.loop.state.nodes["n1"].boot_id == "boot-1"
                    assert daemon.loop.state.jobs[1].state is JobState.RUNNING

    asyncio.run(run())


def test_a_session_that_was_overtaken_is_not_registered(site, kit):
    async def run():
        async with (
            site.daemon() as daemon,
            agent(site, kit, daemon, boot="an earlier boot") as slow,
            agent(site, kit, daemon) as fast,
        ):
            await slow.introduce()
            await fast.hello()
            await run_a_job(kit, daemon, fast)
            # when the first frame of the older session comes at last, its host silent by now
            await fast.close()
            await kit.gone(daemon, "n1")
            await slow.say()
            await over(slow)
            # then the node is still what the newer session made it
            assert daemon.loop.state.nodes["n1"].boot_id == "boot-1"
            assert daemon.loop.state.jobs[1].state is JobState.RUNNING
            assert "n1" not in daemon.links

    asyncio.run(run())


@pytest.mark.parametrize("spoil", ["key", "counter"])
def test_a_first_frame_of_another_session_registers_nobody(site, kit, spoil):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.introduce()
            if spoil == "key":
                peer.seal._key = b"y" * 32
            else:
                peer.seal.seal(b"")
            await peer.say()
            await over(peer)
            assert daemon.loop.state.nodes["n1"].state is NodeState.UNKNOWN
            assert "n1" not in daemon.links

    asyncio.run(run())


@pytest.mark.parametrize("says", ["nothing", "hello"])
def test_a_stream_without_an_introduction_is_closed(site, kit, monkeypatch, says):
    monkeypatch.setattr(agents, "INTRODUCTION_SECONDS", PATIENCE)

    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            if says == "hello":
                await peer.introduce()
            else:
                await peer.call.wait_for_connection()
            code = await asyncio.wait_for(peer.call.code(), kit.deadline)
            assert code is grpc.StatusCode.OK, "closed in order: it may dial again"
            assert daemon.loop.state.nodes["n1"].state is NodeState.UNKNOWN

    asyncio.run(run())


def test_of_two_hosts_with_one_name_that_come_at_once_one_is_registered(site, kit):
    async def run():
        async with (
            site.daemon() as daemon,
            agent(site, kit, daemon) as first,
            agent(site, kit, daemon, boot="another host") as second,
        ):
            await first.introduce()
            await second.introduce()
            await first.say()
            await first.hear_until(lambda message: message.heard)
            await second.say()
            await over(second)
            assert daemon.loop.state.nodes["n1"].boot_id == "boot-1"
            async with agent(site, kit, daemon, boot="another host") as again:
                assert (await again.introduce()).error.code == types.ERROR_CODE_CONFLICT

    asyncio.run(run())


def test_terms_that_change_while_an_agent_introduces_itself_are_told_anew(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            assert (await peer.introduce()).lost_contact == "keep"
            text = site.config_file.read_text()
            site.config_file.write_text(text + '\n[timeouts]\nlost_contact = "kill"\n')
            await daemon._status.reconfigure(Principal(0, 0, "root", admin=True))
            await peer.say()
            heard = []
            while isinstance(sealed := await peer.call.read(), agent_pb2.Sealed):
                heard.append(agent_pb2.ControllerMessage.FromString(sealed.body).heard)
            assert not any(heard), "it must not go by terms that hold no longer"
            async with agent(site, kit, daemon) as again:
                assert (await again.hello()).lost_contact == "kill"

    asyncio.run(run())
