"""WatchEvents: the stream resumes where it broke off, and each event comes exactly once."""

from __future__ import annotations

import asyncio

import pytest

from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.identity import Principal
from cranectld.rpc import watch as watching

ALICE = Principal(1001, 1001, "alice")


async def submit(daemon, request):
    body = await daemon.control.call("SubmitJobs", ALICE, request.SerializeToString())
    return [result.job_id for result in pb.SubmitJobsReply.FromString(body).results]


async def read(daemon, request, enough):
    """Replies of one stream until `enough(events)`; events and the last seq."""
    events, seq = [], 0
    stream = daemon.control.watch(ALICE, request.SerializeToString())
    async for body in stream:
        reply = pb.WatchEventsReply.FromString(body)
        events += reply.events
        seq = max(seq, reply.seq)
        if enough(events):
            break
    await stream.aclose()
    return events, seq


def jobs_of(events):
    return [
        job_id
        for event in events
        if event.HasField("job")
        for job_id in range(event.job.job_id, event.job.job_id + max(event.job.count, 1))
    ]


def test_a_stream_broken_off_anywhere_resumes_exactly_once(site, kit):
    async def run():
        async with site.daemon() as daemon:
            wanted = []
            for part in range(12):
                wanted += await submit(daemon, kit.jobs(*(f"j{part}-{i}" for i in range(3))))
            seen, since = [], 0
            # given a watcher that is cut off after every few events, while more come in
            while left := len(wanted) - len(seen):
                events, since = await read(
                    daemon,
                    pb.WatchEventsRequest(since_seq=since, from_start=True),
                    lambda events, left=left: len(jobs_of(events)) >= min(4, left),
                )
                seen += jobs_of(events)
                if len(wanted) < 60:
                    wanted += await submit(daemon, kit.jobs("more", "again"))
            assert seen == wanted

    asyncio.run(run())


def test_live_events_tell_what_became_of_jobs(site, kit):
    async def run():
        async with site.daemon() as daemon:
            stream = daemon.control.watch(ALICE, pb.WatchEventsRequest().SerializeToString())
            first = pb.WatchEventsReply.FromString(await anext(stream))
            assert first.seq == daemon.loop.durable_seq
            assert not first.events
            (job_id,) = await submit(daemon, kit.jobs("a"))
            selector = pb.JobSelector(all=True)
            await daemon.control.call(
                "CancelJobs", ALICE, pb.CancelJobsRequest(selector=selector).SerializeToString()
            )
            states = []
            while types.JOB_STATE_CANCELLED not in states:
                reply = pb.WatchEventsReply.FromString(await anext(stream))
                states += [event.job.state for event in reply.events]
                assert {event.job.job_id for event in reply.events} == {job_id}
            assert states == [types.JOB_STATE_PENDING, types.JOB_STATE_CANCELLED]
            await stream.aclose()

    asyncio.run(run())


def test_a_watcher_of_some_jobs_hears_of_no_others(site, kit):
    async def run():
        async with site.daemon() as daemon:
            await submit(daemon, kit.jobs("a", "b", "c"))
            cancel = pb.CancelJobsRequest(selector=pb.JobSelector(all=True))
            await daemon.control.call("CancelJobs", ALICE, cancel.SerializeToString())
            request = pb.WatchEventsRequest(from_start=True, job_ids=[2])
            events, _ = await read(daemon, request, lambda events: len(events) >= 2)
            assert [(e.job.job_id, e.job.count) for e in events if e.job.count] == [(1, 3)]
            assert [e.job.job_id for e in events if not e.job.count] == [2]

    asyncio.run(run())


def test_a_slow_watcher_is_closed_with_its_place_and_may_resume(site, kit, monkeypatch):
    monkeypatch.setattr(watching, "MAX_QUEUED", 5)

    async def run():
        async with site.daemon() as daemon:
            stream = daemon.control.watch(ALICE, pb.WatchEventsRequest().SerializeToString())
            place = pb.WatchEventsReply.FromString(await anext(stream)).seq
            wanted = []
            for i in range(20):  # nobody reads
                wanted += await submit(daemon, kit.jobs(f"j{i}"))
            seen = []
            async for body in stream:
                reply = pb.WatchEventsReply.FromString(body)
                seen += jobs_of(reply.events)
                place = reply.seq
            assert seen == wanted[:5]
            events, _ = await read(
                daemon, pb.WatchEventsRequest(since_seq=place), lambda events: len(events) >= 15
            )
            assert seen + jobs_of(events) == wanted

    asyncio.run(run())


def test_streams_come_through_the_local_door_and_end_with_the_daemon(site, kit):
    async def run():
        async with site.daemon() as daemon:
            door = kit.door(site.socket)
            await asyncio.to_thread(
                door.send, "WatchEvents", pb.WatchEventsRequest(from_start=True)
            )
            await submit(daemon, kit.jobs("a"))
            seen = []
            while 1 not in seen:
                reply = await asyncio.to_thread(door.receive)
                assert reply.more
                seen += jobs_of(pb.WatchEventsReply.FromString(reply.body).events)
            assert len(daemon._watch) == 1
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(lambda: [door.receive() for _ in range(100)])
        door.close()

    asyncio.run(run())
