"""The single-writer loop: nothing is told before it is durable, and nothing starves."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from crane.errors import CraneError, ErrorCode
from crane.jobspec import JobSpec, Submission
from cranectld.core.commands import (
    CancelJobs,
    HoldJobs,
    Rejected,
    Selector,
    StartEpoch,
    SubmitJobs,
    TakeReports,
)
from cranectld.core.identity import CONTROLLER, Principal
from cranectld.shell import loop as shell_loop

ALICE = Principal(1001, 1001, "alice")


def batch(*names):
    return SubmitJobs(ALICE, tuple(Submission(JobSpec(time_limit=60), name) for name in names))


async def settle():
    """Let everything run that can run without the disk."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_reply_is_released_only_when_its_events_are_durable(site):
    async def run():
        async with site.daemon(held=True) as daemon:
            store = daemon.loop.writer._store
            store.gate.clear()
            # when a job is submitted while the disk does not answer
            reply = asyncio.ensure_future(daemon.loop.submit(batch("a")))
            await settle()
            # then it is applied, and neither its submitter nor a reader is told
            assert daemon.loop.state.jobs
            reader = asyncio.ensure_future(daemon.loop.read(lambda state: len(state.jobs)))
            await asyncio.to_thread(store.entered.wait)
            await settle()
            assert not reply.done()
            assert not reader.done()
            # and both are told once it is durable
            store.gate.set()
            assert await reply == (1,)
            assert await reader == 1
            assert daemon.loop.durable_seq == daemon.loop.state.seq

    asyncio.run(run())


def test_commands_that_wait_for_the_disk_share_one_append(site):
    async def run():
        async with site.daemon(held=True) as daemon:
            store, writer = daemon.loop.writer._store, daemon.loop.writer
            store.gate.clear()
            store.entered.clear()
            first = asyncio.ensure_future(daemon.loop.submit(batch("first")))
            assert await asyncio.to_thread(store.entered.wait, 30)
            before = writer.appends
            others = [asyncio.ensure_future(daemon.loop.submit(batch(f"j{i}"))) for i in range(50)]
            await settle()
            store.gate.set()
            assert await first == (1,)
            assert [await reply for reply in others] == [(i,) for i in range(2, 52)]
            assert writer.appends == before + 2

    asyncio.run(run())


def test_reports_alone_are_taken_when_their_time_has_come(site):
    async def run():
        async with site.daemon() as daemon:
            for _ in range(3):
                assert await daemon.loop.submit(TakeReports("n1", ())) is None

    asyncio.run(run())


def test_reports_gather_until_something_urgent_comes(site, monkeypatch):
    async def run():
        async with site.daemon() as daemon:

            def taken():
                return daemon.loop.figures().get("command_TakeReports", 0)

            # reports that follow a turn (of the start, here) wait for company
            monkeypatch.setattr(shell_loop, "PULSE", 3600)
            late = [
                asyncio.ensure_future(daemon.loop.submit(TakeReports("n1", ()))) for _ in range(3)
            ]
            await settle()
            assert taken() == 0
            # and are taken, in their turn, with the first command that cannot wait
            assert await daemon.loop.submit(batch("a")) == (1,)
            assert [await reply for reply in late] == [None] * 3
            assert taken() == 3

    asyncio.run(run())


def test_replies_come_in_the_order_of_the_log(site):
    async def run():
        async with site.daemon() as daemon:
            order = []

            async def submit(name):
                (job_id,) = await daemon.loop.submit(batch(name))
                order.append(job_id)

            await asyncio.gather(*(submit(f"j{i}") for i in range(300)))
            assert order == list(range(1, 301))

    asyncio.run(run())


def test_a_refusal_too_waits_for_what_it_has_seen(site):
    async def run():
        async with site.daemon(held=True) as daemon:
            store = daemon.loop.writer._store
            store.gate.clear()
            accepted = asyncio.ensure_future(daemon.loop.submit(batch("a")))
            refused = asyncio.ensure_future(
                daemon.loop.submit(CancelJobs(ALICE, Selector(), signal=0))
            )
            await settle()
            assert not refused.done()
            store.gate.set()
            await accepted
            with suppress(Rejected):
                await refused

    asyncio.run(run())


def test_a_failed_append_stops_everything_and_releases_nothing(site):
    async def run():
        async with site.daemon(held=True) as daemon:
            store = daemon.loop.writer._store
            store.gate.clear()
            replies = [asyncio.ensure_future(daemon.loop.submit(batch(f"j{i}"))) for i in range(3)]
            await settle()
            store.error = OSError(28, "No space left on device")
            store.gate.set()
            failure = await asyncio.wait_for(daemon.loop.failure, 10)
            assert "No space left on device" in str(failure)
            done = await asyncio.gather(*replies, return_exceptions=True)
            assert all(isinstance(reply, asyncio.CancelledError) for reply in done)
            with pytest.raises(CraneError) as refused:
                await daemon.loop.submit(batch("later"))
            assert refused.value.code is ErrorCode.UNAVAILABLE
        return daemon

    asyncio.run(run())
    # what was never answered is not there after a restart either
    assert not site.recovered().jobs


def test_a_long_inbox_lets_others_have_their_turn(site):
    async def run():
        async with site.daemon() as daemon:
            hold = HoldJobs(CONTROLLER, Selector())
            crowd = [asyncio.ensure_future(daemon.loop.submit(hold)) for _ in range(3_000)]
            turns = 0
            while not all(reply.done() for reply in crowd):
                await asyncio.sleep(0)
                turns += 1
            await asyncio.gather(*crowd, return_exceptions=True)
            assert turns >= 3_000 // 512

    asyncio.run(run())


def test_time_in_the_log_never_goes_back(site):
    async def run():
        async with site.daemon() as daemon:
            seen = []
            daemon.loop.on_durable.append(lambda events: seen.extend(e.time for e in events))
            daemon.loop._clock._last = 4 * 10**18  # an earlier run's clock was far ahead
            await daemon.loop.submit(batch("a"))
            await daemon.loop.submit(batch("b"))
            assert seen == sorted(seen)
            assert seen[0] >= 4 * 10**18

    asyncio.run(run())


def test_a_restart_recovers_the_state_and_begins_a_new_epoch(site):
    async def run():
        async with site.daemon() as daemon:
            await daemon.loop.submit(batch("a", "b"))
            return daemon.loop.state.epoch

    async def again():
        async with site.daemon() as daemon:
            return daemon.loop.state

    first = asyncio.run(run())
    state = asyncio.run(again())
    assert state.epoch == first + 1
    assert [job.submission.name for job in state.jobs.values()] == ["a", "b"]


def test_commands_may_come_from_other_threads(site):
    async def run():
        async with site.daemon() as daemon:
            reply = await asyncio.to_thread(
                lambda: daemon.loop.submit_threadsafe(batch("a")).result(10)
            )
            assert reply == (1,)

            def refused():
                daemon.loop.submit_threadsafe(CancelJobs(ALICE, Selector())).result(10)

            with suppress(Rejected):
                await asyncio.to_thread(refused)
        late = daemon.loop.submit_threadsafe(StartEpoch())
        await asyncio.sleep(0)
        with pytest.raises(CraneError):
            late.result(10)

    asyncio.run(run())


def test_closing_finishes_what_was_taken(site):
    async def run():
        async with site.daemon(held=True) as daemon:
            store = daemon.loop.writer._store
            store.gate.clear()
            replies = [asyncio.ensure_future(daemon.loop.submit(batch(f"j{i}"))) for i in range(5)]
            await settle()
            closing = asyncio.ensure_future(daemon.loop.close())
            await settle()
            assert not closing.done()
            store.gate.set()
            await closing
            assert [await reply for reply in replies] == [(i,) for i in range(1, 6)]

    asyncio.run(run())
    assert len(site.recovered().jobs) == 5
