"""What must not stop the controller, block it, or let two hosts run one job."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager

import grpc
import pytest

from crane.auth.quota import MAX_CONNECTIONS
from crane.errors import CraneError, ErrorCode
from crane.session import EndCause, JobReleased, StepEnded, StepKey
from crane.states import JobState, NodeState, Reason
from crane.v1 import agent_pb2
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.identity import Principal
from cranectld.store.codec.state import decode_state, encode_state
from cranectld.store.reclaim import read_reclaim

ALICE = Principal(1001, 1001, "alice")
HUGE = 2**64 - 1


@asynccontextmanager
async def agent(site, kit, daemon, **how):
    peer = kit.agent(daemon.port, site.key, **how)
    try:
        yield peer
    finally:
        await peer.close()


async def call(daemon, method, message, reply):
    body = await daemon.control.call(method, ALICE, message.SerializeToString())
    return reply.FromString(body)


async def submit(daemon, request):
    reply = await call(daemon, "SubmitJobs", request, pb.SubmitJobsReply)
    return [result.job_id for result in reply.results]


async def ended_stream(peer):
    while await peer.hear() is not None:
        pass


def test_absurd_figures_of_an_agent_neither_stop_the_controller_nor_keep_a_job(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            (array,) = await submit(daemon, _array(kit))
            await daemon.loop.submit(kit.start(array))
            message = await peer.hear_until(lambda m: m.orders)
            task = message.orders[0].launch.key.job_id
            # given a host whose clock and counters are broken
            report = agent_pb2.Report(seq=1)
            end = report.ended
            end.key.job_id, end.key.step, end.key.attempt = task, -1, 1
            end.cause, end.exit_code, end.signal = 1, -(2**31), 2**32 - 1
            end.start_time = end.end_time = end.cpu_us = end.memory_peak = HUGE
            end.message, end.released = "x" * 100_000, True
            body = agent_pb2.AgentMessage(reports=[report], clock=1).SerializeToString()
            counter, mac = peer.seal.seal(body)
            await peer.call.write(agent_pb2.Sealed(body=body, counter=counter, mac=mac))
            assert (await peer.hear_until(lambda m: m.acknowledged)).acknowledged == 1
            job = daemon.loop.state.jobs[array]
            assert job.array.ended == {JobState.FAILED: 1}
            live = daemon.loop.state
            assert decode_state(encode_state(live)) == live, "a snapshot can hold it"
            assert not daemon.loop.failure.done()
        assert site.recovered().jobs[array].array.ended == {JobState.FAILED: 1}

    asyncio.run(run())


def _array(kit):
    request = kit.jobs("a")
    request.jobs[0].array.ranges.add(first=0, last=3, step=1)
    return request


def test_a_job_whose_script_cannot_be_read_ends_and_says_why(site, kit):
    async def run():
        async with site.daemon() as daemon:
            lost, fine = await submit(daemon, kit.jobs("a")), await submit(daemon, kit.jobs("b"))
        # given a store that lost the row with the script
        with sqlite3.connect(f"{site.path}/state/log.db") as log:
            log.execute("DELETE FROM pack WHERE id = (SELECT min(id) FROM pack)")
        log.close()
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            await daemon.loop.submit(kit.start(lost[0]))
            await daemon.loop.submit(kit.start(fine[0]))
            launched, told = [], []
            while not (launched and told):
                for order in (await peer.hear()).orders:
                    (launched if order.HasField("launch") else told).append(order)
            # then the other job is launched, and the agent is asked to make sure of this one
            assert [order.launch.key.job_id for order in launched] == fine
            assert [order.end_job.job_id for order in told] == lost
            await peer.say((1, JobReleased(lost[0], 1)))
            await peer.hear_until(lambda m: m.acknowledged)
            job = daemon.loop.state.jobs[lost[0]]
            assert (job.state, job.reason) == (JobState.FAILED, Reason.JOB_LAUNCH_FAILURE)
            reply = await call(daemon, "ListJobs", kit.all(), pb.ListJobsReply)
            assert "cannot read its script" in reply.jobs[0].reason_text

    asyncio.run(run())


def test_scripts_of_refused_jobs_do_not_hold_up_those_that_follow(site, kit):
    async def run():
        async with site.daemon() as daemon:
            refused = pb.SubmitJobsRequest()
            refused.specs.add(partitions=["nowhere"]).components.add(cpus_per_task=1000)
            for i in range(18):
                refused.blobs.append(b"#!/bin/sh\n" + os.urandom(16) + bytes([i]) * 4_000_000)
                refused.jobs.add(spec=0, script=i + 1)
            assert not any(await submit(daemon, refused))
            again = asyncio.wait_for(submit(daemon, kit.jobs("good")), kit.deadline)
            assert await again == [1]
        assert list(site.recovered().jobs) == [1]

    asyncio.run(run())


def test_a_node_given_up_as_lost_registers_anew_when_it_is_heard_after_all(site, kit):
    site.write("[timeouts]\nheartbeat = 0.2\nnode = 0.5")

    async def run():
        async with site.daemon() as daemon:
            async with agent(site, kit, daemon) as peer:
                await peer.hello()
                await ended_stream(peer)
                await daemon.loop.settled()
                assert daemon.loop.state.nodes["n1"].state is NodeState.DOWN
            async with agent(site, kit, daemon) as peer:
                await peer.hello()
                assert daemon.loop.state.nodes["n1"].state is NodeState.UP

    asyncio.run(run())


def test_configuration_reaches_agents_that_are_connected(site, kit):
    async def run():
        async with site.daemon() as daemon:
            async with (
                agent(site, kit, daemon) as gone,
                agent(site, kit, daemon, node="n2") as kept,
            ):
                await gone.hello()
                await kept.hello()
                # when a node leaves the configuration
                text = site.config_file.read_text()
                site.config_file.write_text(text.replace("n[1-3]", "n[2-3]"))
                await daemon._status.reconfigure(Principal(0, 0, "root", admin=True))
                # then its agent has to dial again, and the others do not
                await ended_stream(gone)
                await kept.say()
                assert (await kept.hear()).heard
                # when the terms of all change
                site.config_file.write_text(
                    text.replace("n[1-3]", "n[2-3]") + '\n[timeouts]\nlost_contact = "kill"\n'
                )
                await daemon._status.reconfigure(Principal(0, 0, "root", admin=True))
                await ended_stream(kept)
            async with agent(site, kit, daemon, node="n2") as kept:
                assert (await kept.hello()).lost_contact == "kill"

    asyncio.run(run())


def test_a_second_host_cannot_take_the_name_of_one_that_answers(site, kit):
    async def run():
        async with site.daemon() as daemon, agent(site, kit, daemon) as peer:
            await peer.hello()
            (job_id,) = await submit(daemon, kit.jobs("a"))
            await daemon.loop.submit(kit.start(job_id))
            await peer.hear_until(lambda m: m.orders)
            async with agent(site, kit, daemon, boot="another host") as rival:
                welcome = await rival.hello()
            assert welcome.error.code == types.ERROR_CODE_CONFLICT
            assert daemon.loop.state.jobs[job_id].state is JobState.RUNNING
            await peer.say((1, StepEnded(StepKey(job_id, -1, 1), EndCause.EXIT, released=True)))
            await peer.hear_until(lambda m: m.acknowledged)
            assert daemon.loop.state.jobs[job_id].state is JobState.COMPLETED

    asyncio.run(run())


def test_a_token_cannot_be_shown_for_the_next_one(site, kit):
    async def run():
        async with site.daemon() as daemon:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{daemon.port}")
            issue = channel.unary_unary("/crane.v1.Control/IssueToken")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await issue(b"", metadata=(("crane-token-bin", kit.token(site.key)),))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            await channel.close()

    asyncio.run(run())


def nul_in_name(request):
    request.jobs[0].name = "a\0b"


def nul_in_argument(request):
    request.jobs[0].args.append("\0")


def nul_in_directory(request):
    request.specs[0].work_dir = "/tmp\0"


def many_resources(request):
    for i in range(2000):
        request.specs[0].components[0].gres.add(name=f"g{i}", count=1)


def many_licences(request):
    for i in range(2000):
        request.specs[0].licences.add(name=f"l{i}", count=1)


def long_licence(request):
    request.specs[0].licences.add(name="l" * 10_000, count=1)


def late_begin(request):
    request.specs[0].begin = HUGE


def late_deadline(request):
    request.specs[0].deadline = 2**63


def unknown_kind(request):
    request.jobs[0].dependency.terms.add(kind=99, job_id=1)


@pytest.mark.parametrize(
    "spoil",
    [
        nul_in_name,
        nul_in_argument,
        nul_in_directory,
        many_resources,
        many_licences,
        long_licence,
        late_begin,
        late_deadline,
        unknown_kind,
    ],
)
def test_what_could_not_be_logged_or_launched_is_a_bad_request(site, kit, spoil):
    async def run():
        async with site.daemon() as daemon:
            request = kit.jobs("a")
            spoil(request)
            with pytest.raises(CraneError) as refused:
                await submit(daemon, request)
            assert refused.value.code is ErrorCode.BAD_REQUEST
            assert await submit(daemon, kit.jobs("b")) == [1]

    asyncio.run(run())


def test_reservation_wckey_and_licences_select_jobs_and_history(site, kit):
    async def run():
        async with site.daemon(projector=True) as daemon:
            request = kit.jobs("a", reservation="maint", wckey="w1")
            request.specs[0].licences.add(name="matlab", count=2)
            assert await submit(daemon, request) == [1]
            assert await submit(daemon, kit.jobs("b")) == [2]
            for field, value in (
                ("reservations", "maint"),
                ("wckeys", "w1"),
                ("licences", "matlab"),
            ):
                selector = pb.JobSelector(**{field: [value]})
                asked = pb.ListJobsRequest(selector=selector)
                jobs = (await call(daemon, "ListJobs", asked, pb.ListJobsReply)).jobs
                assert [job.job_id for job in jobs] == [1], field
                assert jobs[0].spec.licences[0].name == "matlab"
                asked = pb.ListHistoryRequest(selector=selector)
                jobs = (await call(daemon, "ListHistory", asked, pb.ListHistoryReply)).jobs
                assert [job.job_id for job in jobs] == [1], field

    asyncio.run(run())


@pytest.mark.parametrize("keep", [True, False])
def test_the_log_is_kept_whole_unless_the_configuration_says_otherwise(site, kit, keep):
    text = site.config_file.read_text()
    line = f"[controller]\nkeep_log = {str(keep).lower()}\n"
    site.config_file.write_text(text.replace("[controller]\n", line))

    async def run():
        for name in ("a", "b", "c"):
            async with site.daemon(projector=True) as daemon:
                await submit(daemon, kit.jobs(name))

    asyncio.run(run())
    note = read_reclaim(str(site.path / "state"))
    assert (note.log_through > 0) == (not keep)


@pytest.mark.parametrize("token", ["5:3", "9" * 31])
def test_odd_page_tokens_end_a_history_and_break_nothing(site, kit, token):
    async def run():
        async with site.daemon(projector=True) as daemon:
            asked = pb.ListHistoryRequest(selector=pb.JobSelector(all=True), page_token=token)
            assert not (await call(daemon, "ListHistory", asked, pb.ListHistoryReply)).jobs

    asyncio.run(run())


def test_events_that_do_not_exist_yet_are_refused_not_awaited(site):
    async def run():
        async with site.daemon() as daemon:
            request = pb.WatchEventsRequest(since_seq=10**6).SerializeToString()
            with pytest.raises(CraneError) as refused:
                await anext(daemon.control.watch(ALICE, request))
            assert refused.value.code is ErrorCode.STALE

    asyncio.run(run())


def test_a_failing_listener_keeps_no_reply_back(site, kit):
    async def run():
        async with site.daemon() as daemon:

            def broken(_events):
                raise ValueError("broken")

            daemon.loop.on_durable.insert(0, broken)
            assert await asyncio.wait_for(submit(daemon, kit.jobs("a")), kit.deadline) == [1]
            assert daemon.loop.figures()["listener_failures"] == 1

    asyncio.run(run())


KNOCKS = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path, count = sys.argv[1], int(sys.argv[2])
opened = [socket.socket(socket.AF_UNIX) for _ in range(count)]
for one in opened:
    one.settimeout(20)
    one.connect(path)
told = b"".join(iter(lambda: opened[-1].recv(4096), b""))
sys.exit(0 if b"at most 200 are allowed" in told else 1)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can knock as another user")
def test_one_user_cannot_take_every_connection_of_the_door(site, kit):
    async def run():
        async with site.daemon() as daemon:
            os.chmod(site.path, 0o755)
            for parent in site.path.parents[:3]:  # made by pytest, for one user alone
                if parent.owner() == site.path.owner() and parent != site.path.anchor:
                    parent.chmod(parent.stat().st_mode | 0o011)
            command = [sys.executable, "-c", KNOCKS, str(site.socket), str(MAX_CONNECTIONS + 1)]
            knocking = asyncio.to_thread(subprocess.run, command, cwd="/", check=False)
            assert (await knocking).returncode == 0
            with socket.socket(socket.AF_UNIX) as own:
                own.connect(str(site.socket))
            assert daemon.port

    asyncio.run(run())
