"""A planner that fails: it begins anew, or the daemon stops; never a controller that plans nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from cranectld.core.identity import Principal
from cranectld.shell import planner as shell_planner
from cranectld.shell.planner import KERNELS, Planner
from sched_core import cachedir
from sched_core.warmup import warmup

pytestmark = pytest.mark.timeout(600)

ALICE = Principal(1001, 1001, "alice")
POISON = object()
"""No delta: folding it fails."""


@pytest.fixture(scope="module")
def kernels():
    """Where they are kept, all compiled."""
    warmup(group=KERNELS)
    return str(cachedir.default_root())


@asynccontextmanager
async def planning(site, kit, kernels):
    """A daemon that plans, and the agent of its node n1."""
    async with site.daemon(planner=lambda loop, clock: Planner(loop, clock, kernels)) as daemon:
        peer = kit.agent(daemon.port, site.key)
        try:
            await peer.hello()
            yield daemon, daemon._planner, peer
        finally:
            await peer.close()


async def launched(kit, daemon, peer):
    """Submit a job; its id once it was launched."""
    await daemon.control.call("SubmitJobs", ALICE, kit.jobs("a").SerializeToString())
    message = await peer.hear_until(lambda message: message.orders)
    return message.orders[0].launch.key.job_id


async def failures(kit, planner, count):
    loop = asyncio.get_running_loop()
    end = loop.time() + kit.deadline
    while planner.figures["planner_failures"] < count:
        assert loop.time() < end
        await asyncio.sleep(0.01)


def test_a_planner_that_fails_once_begins_anew_and_misses_nothing(site, kit, kernels):
    async def run():
        async with planning(site, kit, kernels) as (daemon, planner, peer):
            # given tables that can no longer be kept when a job comes
            planner._inbox.append([POISON])
            assert await launched(kit, daemon, peer) == 1
            assert planner.figures["planner_failures"] == 1
            assert await launched(kit, daemon, peer) == 2
            assert not daemon.loop.failure.done()

    asyncio.run(run())


def test_a_planner_that_fails_again_soon_stops_the_daemon(site, kit, kernels):
    async def run():
        async with planning(site, kit, kernels) as (daemon, planner, peer):
            planner._inbox.append([POISON])
            assert await launched(kit, daemon, peer) == 1
            planner._inbox.append([POISON])
            planner.wake()
            failure = await asyncio.wait_for(asyncio.shield(daemon.loop.failure), kit.deadline)
            assert "the planner failed twice" in str(failure)

    asyncio.run(run())


def test_failures_that_are_far_apart_stop_nothing(site, kit, kernels, monkeypatch):
    monkeypatch.setattr(shell_planner, "FAILURE_SPAN", 0.0)

    async def run():
        async with planning(site, kit, kernels) as (daemon, planner, peer):
            for count in (1, 2):
                planner._inbox.append([POISON])
                planner.wake()
                await failures(kit, planner, count)
                assert await launched(kit, daemon, peer) == count
            assert not daemon.loop.failure.done()

    asyncio.run(run())
