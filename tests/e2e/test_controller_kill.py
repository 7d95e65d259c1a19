"""The controller as a process: killed at every fail point, told to stop, started twice, damaged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3

import grpc
import pytest

from crane.session import EndCause, StepEnded, StepKey
from crane.states import JobState
from crane.v1 import control_pb2 as pb
from cranectld.shell import failpoint


def submit_until_dead(kit, site, process):
    """Submit one job after another; the ids that were acknowledged."""
    acknowledged = []
    door = kit.door(site.socket)
    with contextlib.suppress(ConnectionError):
        for number in range(200):
            reply = door.call("SubmitJobs", kit.jobs(f"job-{number}"))
            acknowledged.append((reply.results[0].job_id, f"job-{number}"))
    door.close()
    process.wait(kit.deadline)
    return acknowledged


@pytest.mark.parametrize("name", ["decide", "append", "fsync", "reply"])
def test_a_kill_at_any_point_of_the_log_loses_no_acknowledged_job(site, kit, spawn, name):
    # given a controller that dies at the 20th hit (the first ones are its own start)
    process = spawn(f"{name}:20")
    site.port(process)
    acknowledged = submit_until_dead(kit, site, process)
    assert process.returncode == -signal.SIGKILL
    assert acknowledged
    # then every acknowledged job is there after a restart, once, under its id
    state = site.recovered()
    names = {job_id: job.submission.name for job_id, job in state.jobs.items()}
    assert dict(acknowledged) == {i: n for i, n in names.items() if (i, n) in acknowledged}
    # and at most the one request under way is there besides
    assert len(state.jobs) - len(acknowledged) in (0, 1)
    if name in ("decide", "append"):
        assert len(state.jobs) == len(acknowledged)


def test_a_report_whose_acknowledgement_was_lost_is_taken_again(site, kit, spawn):
    # given a controller that dies as it is about to acknowledge
    process = spawn("acknowledge")
    port = site.port(process)
    report = StepEnded(StepKey(1, -1, 1), EndCause.EXIT, released=True)

    async def talk(port):
        peer = kit.agent(port, site.key)
        try:
            welcome = await peer.hello()
            await peer.say((1, report))
            message = await peer.hear_until(lambda message: message.acknowledged)
            return welcome.epoch, message.acknowledged
        finally:
            await peer.close()

    with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
        asyncio.run(talk(port))
    assert process.wait(kit.deadline) == -signal.SIGKILL
    # then its successor acknowledges the repeated report
    assert asyncio.run(talk(site.port(spawn()))) == (2, 1)


def test_an_order_sent_before_a_crash_is_repeated_to_an_agent_that_has_not_got_it(site, kit, spawn):
    # given a running job whose agent is back, and a controller that dies having sent an order
    async def prepare():
        async with site.daemon() as daemon:
            peer = kit.agent(daemon.port, site.key)
            await peer.hello()
            caller = await daemon._callers.of_uid(1001, 1001)
            await daemon.control.call("SubmitJobs", caller, kit.jobs("a").SerializeToString())
            await daemon.loop.submit(kit.start(1))
            await peer.close()

    asyncio.run(prepare())
    process = spawn("order-sent")
    port = site.port(process)

    async def order(port):
        peer = kit.agent(port, site.key)
        try:
            await peer.hello()
            message = await peer.hear_until(lambda message: message.orders)
            return message.orders[0].launch.key.job_id, message.blobs[0][:9]
        finally:
            await peer.close()

    with contextlib.suppress(grpc.aio.AioRpcError, AssertionError):
        asyncio.run(order(port))  # it may or may not have got through
    assert process.wait(kit.deadline) == -signal.SIGKILL
    assert asyncio.run(order(site.port(spawn()))) == (1, b"#!/bin/sh")
    assert state_told(site, kit) is JobState.RUNNING


def state_told(site, kit):
    """State of job 1 as the running controller tells it."""
    door = kit.door(site.socket)
    (job,) = door.call("ListJobs", kit.all()).jobs
    door.close()
    return JobState(job.state)


def test_sigterm_stops_in_order_and_sighup_reads_the_configuration(site, kit, spawn):
    process = spawn()
    site.port(process)
    door = kit.door(site.socket)
    door.call("SubmitJobs", kit.jobs("a"))
    site.write('[[partitions]]\nname = "new"\nnodes = ["n1"]\n')
    process.send_signal(signal.SIGHUP)

    def reread():
        reply = door.call("ListPartitions", pb.ListPartitionsRequest())
        return "new" in [partition.name for partition in reply.partitions]

    kit.wait(reread, "the new partition")
    process.send_signal(signal.SIGTERM)
    assert process.wait(kit.deadline) == 0
    assert not site.socket.exists()
    door.close()
    state = site.recovered()
    assert list(state.jobs) == [1]
    assert "new" in state.partitions


def test_a_second_controller_on_the_store_is_refused(site, kit, spawn):
    first = spawn()
    site.port(first)
    second = site.process()
    _, said = second.communicate(timeout=kit.deadline)
    assert second.returncode != 0
    assert "STORE_BUSY" in said or "another controller" in said
    assert str(first.pid) in said
    door = kit.door(site.socket)
    assert door.call("SubmitJobs", kit.jobs("a")).results[0].job_id == 1
    door.close()


def test_a_damaged_or_newer_store_is_refused(site, kit):
    state_dir = site.path / "state"
    site.recovered()
    log = next(state_dir.glob("*.db"))
    whole = log.read_bytes()

    def refused():
        process = site.process()
        _, said = process.communicate(timeout=kit.deadline)
        return process.returncode, said

    connection = sqlite3.connect(log)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute(f"PRAGMA user_version = {version + 1}")
    connection.commit()
    connection.close()
    status, said = refused()
    assert status != 0
    assert "newer" in said or "later" in said or "version" in said
    log.write_bytes(b"not a database at all" + os.urandom(len(whole)))
    status, said = refused()
    assert status != 0
    assert str(log) in said


def test_fail_points_cost_nothing_unless_armed():
    assert failpoint.hit.__name__ == "_unarmed"
    assert set(failpoint.NAMES) == {
        "decide",
        "append",
        "fsync",
        "reply",
        "order-sent",
        "acknowledge",
    }
