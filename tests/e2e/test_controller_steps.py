"""Steps of `crun` at the controller: what they run is stored once, and travels with their orders."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from contextlib import asynccontextmanager

import grpc
import pytest

from crane.session import EndCause, StepEnded, StepKey
from crane.states import StepState
from crane.v1 import agent_pb2
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.commands import JobChanges, SelectedId, Selector, UpdateJobs
from cranectld.core.events import StepCreated, StepsEnded
from cranectld.core.identity import Principal
from cranectld.core.packs import live_packs
from cranectld.store.codec import encode_batch
from cranectld.store.codec.state import decode_state, encode_state

ALICE = Principal(1001, 1001, "alice")
ARGV = ["prog", "-x", "a b", "", "é"]


@asynccontextmanager
async def agent(site, kit, port):
    peer = kit.agent(port, site.key)
    try:
        yield peer
    finally:
        await peer.close()


async def run_job(daemon, kit, **more):
    """A job of Alice's that runs on n1."""
    request = kit.jobs("a", **more)
    body = await daemon.control.call("SubmitJobs", ALICE, request.SerializeToString())
    job_id = pb.SubmitJobsReply.FromString(body).results[0].job_id
    assert await daemon.loop.submit(kit.start(job_id)) == 1
    return job_id


async def shorten(daemon, job_id):
    """Change the job's limit: every registration of its node is answered with it from now on."""
    job = Selector(ids=(SelectedId(job_id),))
    await daemon.loop.submit(UpdateJobs(ALICE, job, JobChanges(time_limit=50)))


async def ask(peer, job_id, number=1, **fields):
    """Ask for a step as the agent does for `crun`."""
    fields = {"argv": ARGV, "ntasks": 1, "overlap": True, "ticket": b"t", **fields}
    request = agent_pb2.CreateStepRequest(job_id=job_id, **fields)
    forward = agent_pb2.CreateStepForward(id=number, uid=1001, gid=1001, request=request)
    await peer.say(create_steps=[forward])


async def create(peer, job_id, **fields):
    """Create a step; the answer, and its order with the message it came in, if it was made."""
    await ask(peer, job_id, **fields)
    answer = order = None
    while answer is None or (order is None and not answer.error.code):
        message = await peer.hear()
        for given in message.step_answers:
            answer = given.reply
        for given in message.orders:
            if given.launch.HasField("crun"):
                order = given.launch, message
    return answer, order


def content(order):
    """What the order's step runs: command line and environment."""
    launch, message = order
    return message.blobs[launch.crun.argv - 1], message.blobs[launch.environment - 1]


def test_the_order_carries_command_line_and_environment(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            await peer.hello()
            job_id = await run_job(daemon, kit)
            reply, order = await create(peer, job_id, environment=b"A=1\0B=2")
            assert (reply.step, list(reply.nodes)) == (0, ["n1"])
            assert content(order) == (b"prog\0-x\0a b\0\0\xc3\xa9\0", b"A=1\0B=2")
            # and the next step with the same refers to what is there
            _, second = await create(peer, job_id, environment=b"A=1\0B=2")
            assert content(second) == content(order)
            first, second = (daemon.loop.state.jobs[job_id].run.steps[i].request for i in (0, 1))
            assert (first.argv, first.environment) == (second.argv, second.environment)
            # an empty environment is one, too
            _, bare = await create(peer, job_id)
            assert content(bare)[1] == b""

    asyncio.run(run())


def test_state_snapshot_and_event_do_not_grow_with_the_environment(site, kit):
    async def run():
        sizes = []
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            created = []
            daemon.loop.on_durable.append(
                lambda batch: created.extend(e for e in batch if isinstance(e.event, StepCreated))
            )
            await peer.hello()
            job_id = await run_job(daemon, kit)
            for letter, length in ((b"s", 10), (b"m", 10_000), (b"l", 1_000_000)):
                before = sum(map(len, encode_state(daemon.loop.state)))
                argv = ["prog", letter.decode() * length]
                environment = b"A=" + letter * length
                _, order = await create(peer, job_id, argv=argv, environment=environment)
                assert content(order)[1] == environment
                after = sum(map(len, encode_state(daemon.loop.state)))
                sizes.append((after - before, len(encode_batch(created[-1:], 1))))
            live = daemon.loop.state
            assert decode_state(encode_state(live)) == live
            # then steps that run what is 100,000 times as large take a few bytes more at most
            (step, event) = sizes[0]
            assert all(abs(s - step) <= 16 and abs(e - event) <= 16 for s, e in sizes), sizes
            assert step < 300
        assert site.recovered().jobs[job_id].run.steps == live.jobs[job_id].run.steps

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"environment": b"x" * 5_000_000}, types.ERROR_CODE_LIMIT_EXCEEDED, "5000016 bytes"),
        ({"argv": ["x" * 3_000_000]}, types.ERROR_CODE_LIMIT_EXCEEDED, "into a file"),
        ({"argv": []}, types.ERROR_CODE_BAD_REQUEST, "needs a command"),
        ({"argv": ["a\0b"]}, types.ERROR_CODE_BAD_REQUEST, "NUL"),
        ({"overlap": False}, types.ERROR_CODE_CONFLICT, "busy"),
        ({"ntasks": 99}, types.ERROR_CODE_UNSATISFIABLE, "99 tasks"),
    ],
)
def test_a_refused_step_says_why_and_leaves_nothing_in_the_store(site, kit, fields, code, word):
    site.write("[limits]\nmax_environment = 1_048_576\n")

    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            await peer.hello()
            job_id = await run_job(daemon, kit)
            made, _ = await create(peer, job_id, overlap=False)
            assert not made.error.code
            before = daemon.loop.state.seq
            reply, _ = await create(peer, job_id, **{"environment": b"B=2", **fields})
            assert reply.error.code == code
            assert word in reply.error.message + reply.error.hint
            assert daemon.loop.state.seq == before
            assert daemon.loop.writer.waiting_bytes == 0
            # the stream has not suffered
            made, order = await create(peer, job_id, environment=b"C=3")
            assert (made.step, content(order)[1]) == (1, b"C=3")

    asyncio.run(run())


def test_a_restarted_controller_sends_the_content_again_until_the_step_has_ended(site, kit):
    async def prepare():
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            await peer.hello()
            job_id = await run_job(daemon, kit)
            await create(peer, job_id, environment=b"A=1")
            await shorten(daemon, job_id)
            return job_id

    async def again(job_id, running, end):
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            packs = live_packs(daemon.loop.state)
            assert list(daemon.loop.writer._needed()) == list(packs)
            await peer.hello(running)
            message = await peer.hear_until(lambda m: m.orders)
            orders = [(o.launch, message) for o in message.orders if o.launch.HasField("crun")]
            if end:
                await peer.say((1, StepEnded(StepKey(job_id, 0, 1), EndCause.EXIT)))
                await peer.hear_until(lambda m: m.acknowledged)
            return len(packs), [content(order) for order in orders]

    # given a controller that stopped before the agent had the order
    job_id = asyncio.run(prepare())
    batch, step = StepKey(job_id, -1, 1), StepKey(job_id, 0, 1)
    # when it is back, the agent is sent all of it
    lost = asyncio.run(again(job_id, [batch], end=False))
    assert lost == (2, [(b"prog\0-x\0a b\0\0\xc3\xa9\0", b"A=1")])
    # and an agent that has got it is not
    assert asyncio.run(again(job_id, [batch, step], end=True)) == (2, [])
    # and when the step has ended nothing refers to its pack any more
    assert asyncio.run(again(job_id, [batch], end=False)) == (1, [])


def test_a_step_whose_content_the_store_has_lost_ends_and_says_why(site, kit):
    async def prepare():
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            await peer.hello()
            job_id = await run_job(daemon, kit)
            await create(peer, job_id, environment=b"A=1")
            return job_id, daemon.loop.state.jobs[job_id].run.steps[0].request.argv.pack

    async def restart(job_id):
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            ended = asyncio.Event()

            def look(batch):
                if any(isinstance(logged.event, StepsEnded) for logged in batch):
                    ended.set()

            daemon.loop.on_durable.append(look)
            await peer.hello([StepKey(job_id, -1, 1)])
            await asyncio.wait_for(ended.wait(), kit.deadline)
            run = daemon.loop.state.jobs[job_id].run
            return run.steps[0].state, run.steps[0].message, run.batch_end

    job_id, pack = asyncio.run(prepare())
    with sqlite3.connect(f"{site.path}/state/log.db") as log:
        log.execute("DELETE FROM pack WHERE id = ?", (pack,))
    log.close()
    state, message, batch_end = asyncio.run(restart(job_id))
    assert (state, batch_end) == (StepState.ENDED, None)
    assert "cannot read its command line" in message


@pytest.mark.parametrize("point", ["append", "fsync", "reply", "order-sent"])
def test_a_kill_while_a_step_is_made_leaves_all_of_it_or_nothing(site, kit, spawn, point):
    async def prepare():
        async with site.daemon() as daemon, agent(site, kit, daemon.port) as peer:
            await peer.hello()
            job_id = await run_job(daemon, kit)
            await shorten(daemon, job_id)
            return job_id

    async def make(port, job_id):
        async with agent(site, kit, port) as peer:
            await peer.hello([StepKey(job_id, -1, 1)])
            with contextlib.suppress(grpc.aio.AioRpcError, AssertionError, AttributeError):
                while True:
                    await create(peer, job_id, argv=["prog"], environment=b"A=1")

    async def orders(port, job_id):
        async with agent(site, kit, port) as peer:
            await peer.hello([StepKey(job_id, -1, 1)])
            found = {}
            while True:
                message = await peer.hear_until(lambda m: m.orders)
                for order in message.orders:
                    if order.HasField("launch"):
                        found[order.launch.key.step] = content((order.launch, message))
                    if order.HasField("set_time_limit"):
                        return found  # the last of what a registration sends

    job_id = asyncio.run(prepare())
    # given a controller that dies as it makes steps (the first appends are its own start)
    process = spawn(f"{point}:6")
    asyncio.run(make(site.port(process), job_id))
    assert process.wait(kit.deadline) == -signal.SIGKILL
    # when its successor starts, every step of the log is ordered anew with what it runs
    successor = spawn()
    port = site.port(successor)
    found = asyncio.run(orders(port, job_id))
    successor.send_signal(signal.SIGTERM)
    successor.wait(kit.deadline)
    steps = [number for number in site.recovered().jobs[job_id].run.steps if number >= 0]
    assert steps
    assert found == dict.fromkeys(steps, (b"prog\0", b"A=1"))
