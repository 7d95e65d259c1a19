"""The handlers of Control behind both doors: what is asked, by whom, and what is refused."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import grpc
import pytest

from crane.states import JobState
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.identity import Principal

ALICE = Principal(1001, 1001, "alice")
BOB = Principal(1002, 1002, "bob")


@asynccontextmanager
async def calling(site, **how):
    """A daemon and a function that calls a method with messages."""
    async with site.daemon(**how) as daemon:

        async def call(method, message, caller=ALICE):
            body = await daemon.control.call(method, caller, message.SerializeToString())
            name = {"ChangeJobs": "Change", "CancelJobs": "Change"}.get(method, method)
            return getattr(pb, f"{name}Reply").FromString(body)

        yield daemon, call


def array_request(first, last, limit=0):
    request = pb.SubmitJobsRequest()
    request.specs.add(work_dir="/tmp", time_limit=60).components.add(cpus_per_task=1000)
    job = request.jobs.add(spec=0, name="array")
    job.array.limit = limit
    job.array.ranges.add(first=first, last=last, step=1)
    return request


def test_submitted_jobs_are_listed_at_once_with_all_they_carry(site, kit):
    async def run():
        async with calling(site) as (_, call):
            request = kit.jobs("a", "b", account="physics", comment="hello")
            reply = await call("SubmitJobs", request)
            assert [result.job_id for result in reply.results] == [1, 2]
            listed = await call("ListJobs", kit.all())
            assert [(job.job_id, job.name, job.user) for job in listed.jobs] == [
                (1, "a", "alice"),
                (2, "b", "alice"),
            ]
            job = listed.jobs[0]
            assert (job.spec.account, job.spec.comment) == ("physics", "hello")
            assert job.state == types.JOB_STATE_PENDING
            assert job.stdout == "/tmp/crane-1.out"
            assert job.partition == "main"

    asyncio.run(run())


def test_refused_jobs_of_a_batch_are_refused_one_by_one(site, kit):
    async def run():
        async with calling(site) as (_, call):
            request = kit.jobs("good")
            request.specs.add(partitions=["nowhere"]).components.add(cpus_per_task=1000)
            request.jobs.add(spec=1, name="bad", script=1)
            reply = await call("SubmitJobs", request)
            assert reply.results[0].job_id == 1
            assert reply.results[1].error.code == types.ERROR_CODE_UNKNOWN_PARTITION
            assert len((await call("ListJobs", kit.all())).jobs) == 1

    asyncio.run(run())


def test_a_dry_run_answers_and_changes_nothing(site, kit):
    async def run():
        async with calling(site) as (daemon, call):
            request = kit.jobs("a")
            request.dry_run = True
            before = daemon.loop.state.seq
            reply = await call("SubmitJobs", request)
            assert not reply.results[0].HasField("error")
            assert daemon.loop.state.seq == before

    asyncio.run(run())


def break_spec_index(request):
    request.jobs[0].spec = 7


def break_blob_index(request):
    request.jobs[0].script = 99


def break_enum(request):
    request.specs[0].open_mode = 77


def break_array(request):
    request.jobs[0].array.ranges.add(first=5, last=2, step=1)


def break_step(request):
    request.jobs[0].array.ranges.add(first=5, last=9, step=0)


def break_size(request):
    request.specs[0].components[0].cpus_per_task = 2**63


def break_dependency(request):
    request.jobs[0].dependency.terms.add(kind=99, job_id=1)


def no_jobs(request):
    del request.jobs[:]


@pytest.mark.parametrize(
    "spoil",
    [
        break_spec_index,
        break_blob_index,
        break_enum,
        break_array,
        break_step,
        break_size,
        break_dependency,
        no_jobs,
    ],
)
def test_malformed_requests_are_bad_and_change_nothing(site, kit, spoil):
    async def run():
        async with calling(site) as (daemon, _):
            request = kit.jobs("a", "b")
            spoil(request)
            before = daemon.loop.state.seq
            door = kit.door(site.socket)
            error = await asyncio.to_thread(door.call, "SubmitJobs", request)
            door.close()
            assert error.code == types.ERROR_CODE_BAD_REQUEST, error
            assert daemon.loop.state.seq == before

    asyncio.run(run())


def test_rubbish_and_wrong_text_are_bad_requests(site, kit):
    async def run():
        async with calling(site):
            door = kit.door(site.socket)
            name = kit.jobs("xyzzy").SerializeToString().replace(b"xyzzy", b"\xff\xfe\xfd\xfc\xfb")
            for body in (b"\xff\xff\xff\xff", name, b"\x0a\x05abc"):
                error = await asyncio.to_thread(door.call, "SubmitJobs", body)
                assert error.code == types.ERROR_CODE_BAD_REQUEST
            error = await asyncio.to_thread(door.call, "NoSuchMethod", b"")
            assert error.code == types.ERROR_CODE_BAD_REQUEST
            door.close()

    asyncio.run(run())


def test_limits_on_batches_and_blobs_say_what_they_are(site, kit):
    site.write("[limits]\nmax_batch = 2\nmax_script = 2000\nmax_environment = 2000\n")

    async def run():
        async with calling(site):
            door = kit.door(site.socket)

            async def error_of(request):
                return await asyncio.to_thread(door.call, "SubmitJobs", request)

            many = await error_of(kit.jobs("a", "b", "c"))
            assert many.code == types.ERROR_CODE_LIMIT_EXCEEDED
            assert "at most 2" in many.message
            long = kit.jobs("a")
            long.blobs[0] = b"#!/bin/sh\n" + b"x" * 2000
            assert (await error_of(long)).code == types.ERROR_CODE_SCRIPT_TOO_LARGE
            rich = kit.jobs("a")
            rich.blobs.append(b"A=" + b"x" * 2000)
            rich.jobs[0].environment = 2
            assert (await error_of(rich)).code == types.ERROR_CODE_LIMIT_EXCEEDED
            door.close()

    asyncio.run(run())


def test_pages_hold_every_job_once(site, kit):
    async def run():
        async with calling(site) as (_, call):
            await call("SubmitJobs", kit.jobs(*(f"j{i}" for i in range(25))))
            await call("SubmitJobs", array_request(0, 9))
            seen, token = [], ""
            while True:
                reply = await call("ListJobs", kit.all(page_size=7, page_token=token))
                assert len(reply.jobs) <= 7
                seen += [job.job_id for job in reply.jobs]
                token = reply.next_page_token
                if not token:
                    break
            assert seen == list(range(1, 27))

    asyncio.run(run())


def test_expanded_arrays_page_by_task(site, kit):
    async def run():
        async with calling(site) as (_, call):
            await call("SubmitJobs", array_request(10, 29))
            seen, token = [], ""
            while True:
                reply = await call(
                    "ListJobs", kit.all(page_size=6, page_token=token, expand_arrays=True)
                )
                seen += [(job.array_job_id, job.array_task) for job in reply.jobs]
                token = reply.next_page_token
                if not token:
                    break
            assert seen == [(1, index) for index in range(10, 30)]
            whole = (await call("ListJobs", kit.all())).jobs
            assert [(r.first, r.last) for r in whole[0].array.ranges] == [(10, 29)]
            assert dict(whole[0].task_states) == {JobState.PENDING: 20}

    asyncio.run(run())


def test_cancelled_tasks_leave_the_pending_ranges(site, kit):
    async def run():
        async with calling(site) as (_, call):
            await call("SubmitJobs", array_request(0, 9))
            selector = pb.JobSelector()
            selector.ids.add(job_id=1).tasks.add(first=3, last=5, step=1)
            reply = await call("CancelJobs", pb.CancelJobsRequest(selector=selector))
            assert all(not result.HasField("error") for result in reply.results)
            (row,) = (await call("ListJobs", kit.all())).jobs
            assert [(r.first, r.last) for r in row.array.ranges] == [(0, 2), (6, 9)]
            picked = await call("ListJobs", pb.ListJobsRequest(selector=selector))
            assert [(job.array_task, job.state) for job in picked.jobs] == [
                (index, types.JOB_STATE_CANCELLED) for index in (3, 4, 5)
            ]

    asyncio.run(run())


def test_filters_must_all_hold_and_an_empty_selector_selects_nothing(site, kit):
    async def run():
        async with calling(site) as (_, call):
            await call("SubmitJobs", kit.jobs("a", "b"), ALICE)
            await call("SubmitJobs", kit.jobs("a"), BOB)

            async def ids(**filters):
                request = pb.ListJobsRequest(selector=pb.JobSelector(**filters))
                return [job.job_id for job in (await call("ListJobs", request)).jobs]

            assert await ids(names=["a"]) == [1, 3]
            assert await ids(names=["a"], users=["bob"]) == [3]
            assert await ids(states=[types.JOB_STATE_RUNNING]) == []
            assert await ids() == []

    asyncio.run(run())


def test_changes_answer_for_each_job_and_check_who_asks(site, kit):
    async def run():
        async with calling(site) as (_, call):
            await call("SubmitJobs", kit.jobs("a"), ALICE)
            request = pb.ChangeJobsRequest(hold=pb.ChangeJobsRequest.Hold())
            request.selector.ids.add(job_id=1)
            request.selector.ids.add(job_id=77)
            reply = await call("ChangeJobs", request, BOB)
            codes = {result.subject: result.error.code for result in reply.results}
            assert codes["1"] == types.ERROR_CODE_NOT_PERMITTED
            assert codes["77"] == types.ERROR_CODE_UNKNOWN_JOB
            reply = await call("ChangeJobs", request, ALICE)
            assert {r.subject: r.error.code for r in reply.results}["1"] == types.ERROR_CODE_OK
            (job,) = (await call("ListJobs", kit.all())).jobs
            assert job.reason == types.REASON_JOB_HELD_USER
            why = await call("ExplainJob", pb.ExplainJobRequest(job_id=1, task=-1))
            assert [gate.name for gate in why.gates if not gate.open] == ["hold"]
            assert why.text

    asyncio.run(run())


def test_the_local_door_knows_its_caller(site, kit):
    async def run():
        async with calling(site) as (_, call):
            door = kit.door(site.socket)
            reply = await asyncio.to_thread(door.call, "SubmitJobs", kit.jobs("mine"))
            door.close()
            assert reply.results[0].job_id == 1
            (job,) = (await call("ListJobs", kit.all())).jobs
            assert (job.uid, job.gid) == (os.getuid(), os.getgid())

    asyncio.run(run())


def test_tcp_callers_are_who_their_token_says(site, kit):
    async def run():
        async with calling(site) as (daemon, call):  # noqa: SIM117 - the port is known inside
            async with grpc.aio.insecure_channel(f"127.0.0.1:{daemon.port}") as channel:
                submit = channel.unary_unary("/crane.v1.Control/SubmitJobs")
                body = kit.jobs("tinas").SerializeToString()
                good = kit.token(site.key)
                await submit(body, metadata=(("crane-token-bin", good),))
                (job,) = (await call("ListJobs", kit.all())).jobs
                assert (job.uid, job.user) == (4242, "tina")

                forged = good[:-1] + bytes([good[-1] ^ 1])
                old = kit.token(site.key, now=1_000_000)
                for metadata in ((), (("crane-token-bin", forged),), (("crane-token-bin", old),)):
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await submit(body, metadata=metadata)
                    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
                    trailing = dict(refused.value.trailing_metadata())
                    error = types.Error.FromString(trailing["crane-error-bin"])
                    assert error.code == types.ErrorCode.Value("ERROR_CODE_NOT_AUTHENTICATED")
                assert len((await call("ListJobs", kit.all())).jobs) == 1

    asyncio.run(run())


def test_a_token_from_the_door_works_over_tcp(site, kit):
    async def run():
        async with calling(site) as (daemon, _):
            door = kit.door(site.socket)
            issued = await asyncio.to_thread(door.call, "IssueToken", pb.IssueTokenRequest())
            door.close()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{daemon.port}") as channel:
                status = channel.unary_unary("/crane.v1.Control/GetStatus")
                metadata = (("crane-token-bin", issued.token),)
                reply = pb.GetStatusReply.FromString(await status(b"", metadata=metadata))
            assert reply.cluster == "crane"
            assert reply.figures["command_StartEpoch"] == 1
            assert reply.config["timeouts.node"]

    asyncio.run(run())


def test_nodes_and_partitions_are_shown(site, kit):
    async def run():
        async with calling(site) as (_, call):
            nodes = (await call("ListNodes", pb.ListNodesRequest())).nodes
            assert [(node.name, node.shown_state) for node in nodes] == [
                ("n1", "unknown"),
                ("n2", "unknown"),
                ("n3", "unknown"),
            ]
            (main,) = (await call("ListPartitions", pb.ListPartitionsRequest())).partitions
            assert (main.name, main.default, list(main.nodes)) == ("main", True, ["n1", "n2", "n3"])

    asyncio.run(run())


def test_reconfigure_puts_the_file_in_force_and_a_wrong_file_changes_nothing(site, kit):
    async def run():
        root = Principal(0, 0, "root", admin=True)
        async with calling(site) as (daemon, call):
            refused = await call("Reconfigure", pb.ReconfigureRequest(), BOB)
            assert refused.error.code == types.ERROR_CODE_NOT_PERMITTED
            site.write('[[partitions]]\nname = "new"\nnodes = ["n1"]\n')
            reply = await call("Reconfigure", pb.ReconfigureRequest(), root)
            assert reply.changes
            assert "new" in daemon.loop.state.partitions
            site.write("[limits]\nmax_bach = 2\n")
            reply = await call("Reconfigure", pb.ReconfigureRequest(), root)
            assert reply.error.code == types.ERROR_CODE_BAD_CONFIG
            assert "max_batch" in reply.error.hint
            assert "new" in daemon.loop.state.partitions

    asyncio.run(run())


def test_history_is_never_behind_what_was_told(site, kit):
    async def run():
        async with calling(site, projector=True) as (_, call):
            await call("SubmitJobs", kit.jobs("a", "b"))
            selector = pb.JobSelector(users=["alice"])
            await call("CancelJobs", pb.CancelJobsRequest(selector=selector))
            # the projector may not even have started
            first = await call("ListHistory", pb.ListHistoryRequest(selector=selector))
            assert [(j.job_id, j.state) for j in first.jobs] == [
                (1, types.JOB_STATE_CANCELLED),
                (2, types.JOB_STATE_CANCELLED),
            ]
            page = pb.ListHistoryRequest(selector=selector, page_size=1)
            one = await call("ListHistory", page)
            assert [job.job_id for job in one.jobs] == [1]
            page.page_token = one.next_page_token
            assert [job.job_id for job in (await call("ListHistory", page)).jobs] == [2]

    asyncio.run(run())
