"""One name, several hosts or spools: whose jobs may be alive, nobody takes the name of."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from crane.session import StepKey, StepStarted
from crane.states import JobState, NodeState
from crane.v1 import types_pb2 as types
from cranectld.core.commands import ChangeNodes
from cranectld.core.identity import Principal

ALICE = Principal(1001, 1001, "alice")
ROOT = Principal(0, 0, "root", admin=True)
KEY = StepKey(1, -1, 1)


@asynccontextmanager
async def agent(site, kit, daemon, **how):
    peer = kit.agent(daemon.port, site.key, **how)
    try:
        yield peer
    finally:
        await peer.close()


async def run_a_job(kit, daemon, peer):
    """Have job 1 run on the peer's node."""
    await daemon.control.call("SubmitJobs", ALICE, kit.jobs("a").SerializeToString())
    assert await daemon.loop.submit(kit.start(1)) == 1
    await peer.hear_until(lambda message: message.orders)
    await peer.say((1, StepStarted(KEY, 5, 77)))
    await peer.hear_until(lambda message: message.acknowledged)


def test_a_rival_that_comes_first_after_a_restart_of_the_controller_is_refused(site, kit):
    rival = {"boot": "boot-2", "spool": "r", "host": "another"}

    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            await run_a_job(kit, daemon, peer)
        async with site.daemon() as daemon:
            async with agent(site, kit, daemon, **rival) as other:
                error = (await other.introduce()).error
            assert error.code == types.ERROR_CODE_CONFLICT
            assert "job 1" in error.message
            job = daemon.loop.state.jobs[1]
            assert (job.state, job.restarts) == (JobState.RUNNING, 0)
            # when the host that has the job comes, it goes on there
            async with agent(site, kit, daemon) as peer:
                assert not (await peer.hello([KEY])).error.message
                assert daemon.loop.state.nodes["n1"].host_id == "h"
                assert (job.state, job.attempt) == (JobState.RUNNING, 1)

    asyncio.run(run())


def test_an_agent_with_a_new_spool_waits_until_an_operator_has_spoken(site, kit):
    site.write("[timeouts]\nheartbeat = 0.1\nnode = 0.5\nlease = 0.5\n")

    async def run():
        async with site.daemon() as daemon:
            async with agent(site, kit, daemon) as peer:
                await peer.hello()
                await run_a_job(kit, daemon, peer)
            await kit.gone(daemon, "n1")
            node, job = daemon.loop.state.nodes["n1"], daemon.loop.state.jobs[1]
            # given an agent that was started in the same boot, with another state directory
            deadline = asyncio.get_running_loop().time() + kit.deadline
            while node.state is not NodeState.DOWN:
                assert asyncio.get_running_loop().time() < deadline, "dialling is no sign of life"
                async with agent(site, kit, daemon, spool="new") as fresh:
                    error = (await fresh.introduce()).error
                assert error.code in (types.ERROR_CODE_CONFLICT,)
            assert "NodeName=n1 State=absent" in error.hint
            assert job.state is JobState.RUNNING
            await daemon.loop.submit(ChangeNodes(ROOT, ("n1",), "absent"))
            assert job.state is JobState.PENDING
            async with agent(site, kit, daemon, spool="new") as fresh:
                assert not (await fresh.hello()).error.message
                assert node.state is NodeState.UP

    asyncio.run(run())


def test_a_rebooted_host_that_lost_its_spool_registers_at_once(site, kit):
    async def run():
        async with site.daemon() as daemon:
            async with agent(site, kit, daemon) as peer:
                await peer.hello()
                await run_a_job(kit, daemon, peer)
            await kit.gone(daemon, "n1")
            async with agent(site, kit, daemon, boot="boot-2", spool="new") as fresh:
                assert not (await fresh.hello()).error.message
                assert daemon.loop.state.jobs[1].restarts == 1

    asyncio.run(run())
