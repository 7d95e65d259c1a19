"""The agents' session: who may open one, what is sent, and what is acknowledged when."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest

from crane.errors import CraneError
from crane.session import EndCause, StepEnded, StepKey, StepStarted
from crane.states import JobState, NodeState
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.identity import Principal

ALICE = Principal(1001, 1001, "alice")


@asynccontextmanager
async def agent(site, kit, daemon, **how):
    peer = kit.agent(daemon.port, how.pop("key", site.key), **how)
    try:
        yield peer
    finally:
        await peer.close()


async def submit(daemon, request):
    body = await daemon.control.call("SubmitJobs", ALICE, request.SerializeToString())
    return [result.job_id for result in pb.SubmitJobsReply.FromString(body).results]


def ended(job_id, **more):
    return StepEnded(StepKey(job_id, -1, 1), EndCause.EXIT, released=True, **more)


def test_a_registered_node_is_up_and_its_agent_knows_the_terms(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            welcome = await peer.hello()
            assert (welcome.epoch, welcome.protocol) == (daemon.loop.state.epoch, 1)
            assert welcome.lease > 0
            assert daemon.loop.state.nodes["n1"].state is NodeState.UP
            assert daemon.loop.durable_seq == daemon.loop.state.seq
            assert "n1" in daemon.links

    asyncio.run(run())


def test_strangers_unknown_nodes_and_other_protocols_are_refused(site, kit):
    async def run():
        async with site.daemon() as daemon:
            async with agent(site, kit, daemon, key=b"x" * 32) as stranger:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stranger.hello()
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            async with agent(site, kit, daemon, node="n99") as unknown:
                welcome = await unknown.hello()
                assert welcome.error.code == types.ERROR_CODE_UNKNOWN_NODE
            async with agent(site, kit, daemon) as other:
                assert (await other.introduce(protocol=9)).error.message
            assert not len(daemon.links)

    asyncio.run(run())


def test_a_batch_job_from_order_to_acknowledged_end(site, kit):
    async def run():
        async with site.daemon(held=True) as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            request = kit.jobs("a")
            request.blobs.append(b"HOME=/root\0")
            request.jobs[0].environment = 2
            (job_id,) = await submit(daemon, request)
            # when a plan starts it, its script and environment travel with the order
            assert await daemon.loop.submit(kit.start(job_id)) == 1
            message = await peer.hear_until(lambda message: message.orders)
            launch = message.orders[0].launch
            assert (launch.key.job_id, launch.key.step, launch.key.attempt) == (job_id, -1, 1)
            assert message.blobs[launch.script - 1] == request.blobs[0]
            assert message.blobs[launch.environment - 1] == b"HOME=/root\0"
            assert message.epoch == daemon.loop.state.epoch
            # when it ends, the end is acknowledged only once it is durable
            store = daemon.loop.writer._store
            store.gate.clear()
            await peer.say(
                (1, StepStarted(StepKey(job_id, -1, 1), 5, 77)), (2, ended(job_id, exit_code=3))
            )
            heard = await peer.hear_until(lambda message: message.heard)
            assert heard.acknowledged == 0
            store.gate.set()
            assert (await peer.hear_until(lambda m: m.acknowledged)).acknowledged == 2
            job = daemon.loop.state.jobs[job_id]
            assert (job.state, job.exit_code) == (JobState.FAILED, 3)

    asyncio.run(run())


def test_orders_of_one_turn_travel_together_and_equal_blobs_once(site, kit):
    async def run():
        async with site.daemon(held=True) as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            request = kit.jobs("a", "b", "c")
            for job in request.jobs:
                job.script = 1
            ids = await submit(daemon, request)
            store = daemon.loop.writer._store
            store.gate.clear()
            plans = [asyncio.ensure_future(daemon.loop.submit(kit.start(i))) for i in ids]
            await asyncio.to_thread(store.entered.wait)
            store.gate.set()
            await asyncio.gather(*plans)
            message = await peer.hear_until(lambda message: message.orders)
            assert [order.launch.key.job_id for order in message.orders] == ids
            assert list(message.blobs) == [request.blobs[0]]

    asyncio.run(run())


def test_what_the_agent_missed_is_sent_again_when_it_returns(site, kit):
    async def run():
        async with site.daemon() as daemon:
            async with agent(site, kit, daemon) as peer:
                await peer.hello()
                (job_id,) = await submit(daemon, kit.jobs("a"))
            while "n1" in daemon.links:
                await asyncio.sleep(0.01)
            assert await daemon.loop.submit(kit.start(job_id)) == 1  # nobody hears of it
            async with agent(site, kit, daemon) as peer:
                await peer.hello()
                message = await peer.hear_until(lambda message: message.orders)
                assert message.orders[0].launch.key.job_id == job_id
                assert message.blobs

    asyncio.run(run())


def test_a_second_stream_of_a_node_takes_the_place_of_the_first(site, kit):
    async def run():
        async with (
            site.daemon() as daemon,
            agent(site, kit, daemon) as old,
            agent(site, kit, daemon) as new,
        ):
            first = await old.hello()
            second = await new.hello()
            assert second.stream > first.stream
            while await old.hear() is not None:
                pass
            (job_id,) = await submit(daemon, kit.jobs("a"))
            await daemon.loop.submit(kit.start(job_id))
            message = await new.hear_until(lambda message: message.orders)
            assert message.orders[0].launch.key.job_id == job_id
            assert "n1" in daemon.links

    asyncio.run(run())


def test_every_message_renews_the_lease(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            welcome = await peer.hello()
            before = daemon._contacts.last_heard("n1")
            await peer.say(heartbeat=True)
            message = await peer.hear_until(lambda message: message.heard)
            assert (message.heard, message.lease) == (2, welcome.lease)
            assert daemon._contacts.last_heard("n1") > before

    asyncio.run(run())


def test_a_frame_that_is_not_sealed_ends_the_stream(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            peer.seal._key = b"y" * 32
            await peer.say((1, ended(1)))
            with pytest.raises((CraneError, grpc.aio.AioRpcError, AssertionError)):
                await peer.hear_until(lambda message: message.acknowledged)
            while "n1" in daemon.links:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_steps_are_made_for_the_uid_the_agent_vouches_for(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            (job_id,) = await submit(daemon, kit.jobs("a"))
            await daemon.loop.submit(kit.start(job_id))
            await peer.say((1, StepStarted(StepKey(job_id, -1, 1), 5, 77)))

            async def create(uid, number):
                forward = {"id": number, "uid": uid, "gid": uid}
                step = {"job_id": job_id, "ntasks": 1, "argv": ["hostname"]}
                await peer.say(create_steps=[{**forward, "request": step}])
                message = await peer.hear_until(lambda message: message.step_answers)
                (answer,) = message.step_answers
                assert answer.id == number
                return answer.reply

            refused = await create(2002, 1)
            assert refused.error.code == types.ERROR_CODE_NOT_PERMITTED
            made = await create(1001, 2)
            assert made.error.code == types.ERROR_CODE_OK, made.error
            assert (made.step, list(made.nodes)) == (0, ["n1"])
            signal = {"job_id": job_id, "step": 0, "signal": 15}
            await peer.say(signal_steps=[{"id": 3, "uid": 2002, "gid": 2, "request": signal}])
            message = await peer.hear_until(lambda message: message.step_answers)
            assert message.step_answers[0].reply.error.code == types.ERROR_CODE_NOT_PERMITTED

    asyncio.run(run())


def test_a_silent_node_goes_down(site, kit):
    site.write("[timeouts]\nheartbeat = 0.1\nnode = 0.5\nlease = 0.5\n")

    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            down = asyncio.Event()

            def look(_):
                if daemon.loop.state.nodes["n1"].state is NodeState.DOWN:
                    down.set()

            daemon.loop.on_durable.append(look)
            await asyncio.wait_for(down.wait(), 20)

    asyncio.run(run())
