"""Reports that fail: never acknowledged unless taken, and none of them stops those that follow."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc

from crane.errors import CraneError, ErrorCode
from crane.session import EndCause, StepEnded, StepKey, StepStarted
from crane.states import JobState
from crane.v1 import control_pb2 as pb
from cranectld.core.commands import TakeReports
from cranectld.core.identity import Principal
from cranectld.shell import loop as shell_loop

ALICE = Principal(1001, 1001, "alice")


@asynccontextmanager
async def agent(site, kit, daemon):
    peer = kit.agent(daemon.port, site.key)
    try:
        yield peer
    finally:
        await peer.close()


async def start(kit, daemon, *names):
    """Have jobs of these names run on n1; their ids."""
    body = await daemon.control.call("SubmitJobs", ALICE, kit.jobs(*names).SerializeToString())
    ids = [result.job_id for result in pb.SubmitJobsReply.FromString(body).results]
    for job_id in ids:
        assert await daemon.loop.submit(kit.start(job_id)) == 1
    return ids


def ended(job_id):
    return StepEnded(StepKey(job_id, -1, 1), EndCause.EXIT, released=True)


def test_a_message_that_is_taken_acknowledges_none_that_failed_before(site, kit):
    async def run():
        async with site.daemon(held=True) as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            first, second = await start(kit, daemon, "a", "b")
            (stream,) = [link for _, link in daemon.links.items()]
            submit, both, seen = daemon.loop.submit, asyncio.Event(), []

            async def failing(command):
                if not isinstance(command, TakeReports):
                    return await submit(command)
                seen.append(command)
                if len(seen) == 2:
                    both.set()
                if command is seen[0]:
                    await submit(TakeReports("n1", ()))  # takes its turn, and nothing else
                    raise CraneError(ErrorCode.INTERNAL, "TakeReports failed")
                return await submit(command)

            # given two messages that are answered at once, the first with a failure
            store = daemon.loop.writer._store
            store.gate.clear()
            daemon.loop.submit = failing
            await peer.say((1, ended(first)))
            await peer.say((2, ended(second)))
            await asyncio.wait_for(both.wait(), kit.deadline)
            daemon.loop.submit = submit
            store.gate.set()
            # then the stream ends, and nothing has been or would be acknowledged on it
            try:
                while (message := await peer.hear()) is not None:
                    assert message.acknowledged == 0
            except grpc.aio.AioRpcError:
                pass
            await kit.gone(daemon, "n1")
            assert stream._message().acknowledged == 0
            async with agent(site, kit, daemon) as again:
                await again.hello([StepKey(first, -1, 1), StepKey(second, -1, 1)])
                await again.say((1, ended(first)), (2, ended(second)))
                assert (await again.hear_until(lambda m: m.acknowledged)).acknowledged == 2
            jobs = daemon.loop.state.jobs
            assert {jobs[job_id].state for job_id in (first, second)} == {JobState.COMPLETED}

    asyncio.run(run())


def test_a_report_that_can_never_be_decided_is_dropped_alone(site, kit, monkeypatch):
    decide, poison = shell_loop.decide, []

    def deciding(state, command, now):
        if isinstance(command, TakeReports):
            assert not any(report in poison for report in command.reports)
        return decide(state, command, now)

    monkeypatch.setattr(shell_loop, "decide", deciding)

    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            good, bad, other = await start(kit, daemon, "good", "bad", "other")
            poison.append(ended(bad))
            await peer.say(
                (1, StepStarted(StepKey(good, -1, 1), 5, 77)),
                (2, ended(good)),
                (3, ended(bad)),
                (4, ended(other)),
            )
            # then the session goes on, with all that it said taken but that one
            assert (await peer.hear_until(lambda m: m.acknowledged)).acknowledged == 4
            jobs = daemon.loop.state.jobs
            states = [jobs[job_id].state for job_id in (good, bad, other)]
            assert states == [JobState.COMPLETED, JobState.RUNNING, JobState.COMPLETED]
            assert daemon.loop.figures()["reports_dropped"] == 1
            await peer.say(heartbeat=True)
            await peer.hear_until(lambda message: message.heard)

    asyncio.run(run())
