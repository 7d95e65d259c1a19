"""A planner that fails: it begins anew, or the daemon stops; never a controller that plans nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from crane.v1 import control_pb2
from cranectld.core.identity import Principal
from cranectld.shell import planner as shell_planner
from cranectld.shell.kernels import GROUP
from cranectld.shell.planner import Planner
from sched_core import cachedir
from sched_core.warmup import warmup

pytestmark = pytest.mark.timeout(600)

ROOT = Principal(0, 0, "root", admin=True)
ALICE = Principal(1001, 1001, "alice")
POISON = object()
"""No delta: folding it fails."""


@pytest.fixture(scope="module")
def kernels():
    """Where they are kept, all compiled."""
    for group in (GROUP, "conservative", "priority"):
        warmup(group=group)
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


async def submitted(kit, daemon, caller=ALICE, cpus=1000, **spec):
    """Submit a job for one of the nodes with an agent."""
    request = kit.jobs("a", **spec)
    request.specs[0].components[0].cpus_per_task = cpus
    await daemon.control.call("SubmitJobs", caller, request.SerializeToString())


async def explained(daemon, job):
    request = control_pb2.ExplainJobRequest(job_id=job, task=-1)
    body = await daemon.control.call("ExplainJob", ROOT, request.SerializeToString())
    return control_pb2.ExplainJobReply.FromString(body)


async def passed(kit, condition):
    """Wait for a condition on what passes have found."""
    loop = asyncio.get_running_loop()
    end = loop.time() + kit.deadline
    while not condition():
        assert loop.time() < end
        await asyncio.sleep(0.01)


async def failures(kit, planner, count):
    await passed(kit, lambda: planner.figures["planner_failures"] >= count)


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


def test_a_controller_may_be_told_to_promise_every_job_a_start(site, kit, kernels):
    site.write('[scheduler]\npolicy = "conservative"\n')

    async def run():
        async with planning(site, kit, kernels) as (daemon, planner, peer):
            assert await launched(kit, daemon, peer) == 1
            # given all nodes are full, when jobs come, then each has a promise behind the other
            for _ in range(3):
                await submitted(kit, daemon, cpus=4000)
            await passed(kit, lambda: planner.planned_start(4))
            starts = [planner.planned_start(job) for job in (2, 3, 4)]
            assert starts == sorted(starts)
            assert starts[2] - starts[1] == starts[1] - starts[0] == 60 * 10**9
            # when one comes that goes before them, then they say what became of the promise
            await submitted(kit, daemon, caller=ROOT, cpus=4000, nice=-10)
            await passed(kit, lambda: planner.verdict(2).move and planner.verdict(2).latest)
            reply = await explained(daemon, 2)
            assert reply.promised_start == starts[0]
            assert reply.planned_start > starts[0]
            assert "before" in reply.moved_cause
            assert reply.planned_earliest < reply.planned_start <= reply.planned_latest
            assert reply.job.planned_latest == reply.planned_latest
            assert planner.figures["planner_forecast_last_s"] > 0

    asyncio.run(run())


def test_another_policy_is_taken_up_while_the_controller_runs(site, kit, kernels):
    async def run():
        async with planning(site, kit, kernels) as (daemon, planner, peer):
            assert await launched(kit, daemon, peer) == 1
            for _ in range(2):
                await submitted(kit, daemon, cpus=4000)
            await passed(kit, lambda: planner.verdict(3))
            # given a guess, which takes jobs for something that can be poured
            assert planner.planned_start(3) - planner.planned_start(2) < 60 * 10**9
            site.write('[scheduler]\npolicy = "conservative"\n')
            await daemon.control.call(
                "Reconfigure", ROOT, control_pb2.ReconfigureRequest().SerializeToString()
            )
            # when every job is promised a start, then the second has it behind the first
            await passed(
                kit, lambda: planner.planned_start(3) == planner.planned_start(2) + 60 * 10**9
            )

    asyncio.run(run())


def test_priorities_are_weighed_and_explained(site, kit, kernels):
    site.write('[priority]\nkind = "multifactor"\nsize = 800\nage = 1000\n')

    async def run():
        async with planning(site, kit, kernels) as (daemon, planner, peer):
            assert await launched(kit, daemon, peer) == 1
            # given the node is taken in part, when jobs come, then the larger one goes first
            await submitted(kit, daemon, cpus=3500)
            await submitted(kit, daemon, cpus=4000)
            await passed(kit, lambda: planner.verdict(3))
            first, second = await explained(daemon, 3), await explained(daemon, 2)
            assert (first.jobs_ahead, second.jobs_ahead) == (0, 1)
            assert first.job.priority > second.job.priority > 100_000
            terms = {term.name: term.value for term in first.priority_terms}
            assert sum(terms.values()) == first.job.priority
            assert terms.keys() <= {"base", "size", "age"}

    asyncio.run(run())
