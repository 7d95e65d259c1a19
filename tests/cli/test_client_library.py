"""`Client` against a door that behaves, and one that does not."""

from __future__ import annotations

import socket
import threading

import pytest

from crane.client import Client
from crane.client.connect import connect, places
from crane.client.newjob import NewJob, describe
from crane.client.selection import Selection
from crane.errors import CraneError, ErrorCode
from crane.jobspec import UNLIMITED, Gres, JobSpec
from crane.states import JobState
from crane.v1 import control_pb2 as pb


def job(number: int, state: JobState, **more: object) -> pb.JobInfo:
    return pb.JobInfo(job_id=number, array_task=-1, state=state, spec={"components": [{}]}, **more)


def change(seq: int, number: int, state: JobState, **more: object) -> pb.ClusterEvent:
    return pb.ClusterEvent(
        seq=seq, time=seq, job={"job_id": number, "array_task": -1, "state": state, **more}
    )


def test_many_jobs_share_what_they_have_in_common(controller):
    spec, other = JobSpec(work_dir="/w"), JobSpec(work_dir="/v")
    described = [
        NewJob(spec if n % 2 else other, b"#!/bin/sh\n%d\n" % (n // 2), b"A=1", f"j{n}")
        for n in range(2500)
    ]
    served = iter(range(1, 2501))

    def accept(request):
        assert len(request.specs) == 2
        assert list(request.blobs).count(b"A=1") == 1
        return pb.SubmitJobsReply(results=[{"job_id": next(served)} for _ in request.jobs])

    controller.answers["SubmitJobs"] = accept
    with Client() as client:
        ids = list(client.submit_many(described))

    assert ids == list(range(1, 2501))
    requests = controller.asked("SubmitJobs")
    assert [len(request.jobs) for request in requests] == [1000, 1000, 500]
    names = [
        (j.name, r.specs[j.spec].work_dir, r.blobs[j.script - 1]) for r in requests for j in r.jobs
    ]
    assert names == [(d.name, d.spec.work_dir, d.script) for d in described]


def test_refusals_stand_in_the_place_of_their_jobs(controller):
    controller.answers["SubmitJobs"] = pb.SubmitJobsReply(
        results=[{"job_id": 1}, {"error": {"code": 7, "message": "no such partition"}}]
    )
    with Client() as client:
        first, second = client.submit_many([NewJob(JobSpec(), b"#!/bin/sh\n")] * 2)

    assert first == 1
    assert isinstance(second, CraneError)
    assert second.code is ErrorCode.UNKNOWN_PARTITION


def test_a_job_described_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = describe(
        content=b"#!/bin/sh\n#SBATCH -p gpu --time=5\ntrue\n",
        args=["a"], env={"X": "1", "CRANE_JOB_ID": "5"}, time=10, mem="4G", gpus_per_node=2,
        hold=True, exclude=["n1", "n2"],
    )  # fmt: skip

    assert (made.spec.time_limit, made.spec.partitions) == (600, ("gpu",))
    assert made.spec.components[0].mem_per_node == 4096
    assert made.spec.components[0].gres == (Gres("gpu", "", 2),)
    assert made.spec.components[0].exclude == ("n1", "n2")
    assert (made.spec.hold, made.args, made.environment) == (True, ("a",), b"X=1")
    assert describe(command=["echo", "a b"]).script == b"#!/bin/sh\necho 'a b'\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [({}, ErrorCode.USAGE), ({"script_path": "x", "command": "y"}, ErrorCode.USAGE),
     ({"command": "x", "tiem": 5}, ErrorCode.UNKNOWN_OPTION),
     ({"command": "x", "time": "soon"}, ErrorCode.BAD_TIME)],
)  # fmt: skip
def test_a_bad_description_is_refused(arguments, code):
    with pytest.raises(CraneError) as caught:
        describe(**arguments)
    assert caught.value.code is code


def test_waiting_is_told_by_events(controller):
    states = {1: JobState.RUNNING, 2: JobState.PENDING}

    def rows(request):
        chosen = [job(i.job_id, states[i.job_id], exit_code=3 if i.job_id == 2 else 0)
                  for i in request.selector.ids]  # fmt: skip
        return pb.ListJobsReply(jobs=chosen, seq=10)

    def events(request):
        assert (request.since_seq, list(request.job_ids)) == (10, [1, 2])
        yield pb.WatchEventsReply(seq=10)
        yield pb.WatchEventsReply(events=[change(11, 2, JobState.RUNNING)], seq=11)
        states[1] = JobState.COMPLETED
        yield pb.WatchEventsReply(events=[change(12, 1, JobState.COMPLETED)], seq=12)
        states[2] = JobState.FAILED
        yield pb.WatchEventsReply(events=[change(13, 2, JobState.FAILED)], seq=13)

    controller.answers |= {"ListJobs": rows, "WatchEvents": events}
    with Client() as client:
        ended = client.wait([1, 2])

    assert {number: info.state for number, info in ended.items()} == {
        1: JobState.COMPLETED,
        2: JobState.FAILED,
    }
    assert ended[2].exit_status == 3
    assert len(controller.asked("ListJobs")) == 3


def test_waiting_for_an_array_waits_for_all_of_its_tasks(controller):
    counts = {JobState.COMPLETED: 1, JobState.RUNNING: 1, JobState.PENDING: 1}

    def rows(_):
        whole = job(5, JobState.PENDING if counts.get(JobState.PENDING) else JobState.FAILED,
                    array_job_id=5, task_states=dict(counts), exit_code=2)  # fmt: skip
        return pb.ListJobsReply(jobs=[whole], seq=3)

    def events(_):
        task = {"array_job_id": 5, "array_task": 1}
        yield pb.WatchEventsReply(events=[change(4, 7, JobState.COMPLETED, **task)], seq=4)
        counts.clear()
        counts.update({JobState.COMPLETED: 2, JobState.FAILED: 1})
        yield pb.WatchEventsReply(events=[change(5, 8, JobState.FAILED, **task)], seq=5)

    controller.answers |= {"ListJobs": rows, "WatchEvents": events}
    with Client() as client:
        assert client.wait([5])[5].state is JobState.FAILED
    assert len(controller.asked("ListJobs")) == 2


def test_waiting_for_a_job_that_is_history(controller):
    controller.answers["ListJobs"] = pb.ListJobsReply(seq=9)
    controller.answers["ListHistory"] = pb.ListHistoryReply(jobs=[job(4, JobState.COMPLETED)])
    with Client() as client:
        assert client.wait([4])[4].state is JobState.COMPLETED
        controller.answers["ListHistory"] = pb.ListHistoryReply()
        with pytest.raises(CraneError) as caught:
            client.wait([4])
    assert caught.value.code is ErrorCode.UNKNOWN_JOB


def test_waiting_gives_up_in_time(controller):
    gate = threading.Event()

    def events(_):
        yield pb.WatchEventsReply(seq=1)
        for number in range(2, 1000):
            gate.wait(0.01)
            yield pb.WatchEventsReply(seq=number)

    controller.answers |= {
        "ListJobs": pb.ListJobsReply(jobs=[job(1, JobState.RUNNING)], seq=1),
        "WatchEvents": events,
    }
    with Client() as client, pytest.raises(CraneError) as caught:
        client.wait([1], timeout=0.1)
    gate.set()
    assert caught.value.code is ErrorCode.TIMED_OUT


def test_events_go_on_after_the_stream_broke(controller):
    """Given a stream that ends, when events are followed, then nothing is missed or repeated."""
    log = [change(seq, seq, JobState.RUNNING) for seq in range(1, 8)]

    def events(request):
        later = [event for event in log if event.seq > request.since_seq]
        for event in later[:3]:
            yield pb.WatchEventsReply(events=[event], seq=event.seq)

    controller.answers["WatchEvents"] = events
    with Client() as client:
        stream = client.events(from_start=True)
        seen = [next(stream).seq for _ in range(7)]
        stream.close()

    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert [request.since_seq for request in controller.asked("WatchEvents")] == [0, 3, 6]


def test_an_answer_too_long_for_the_small_codec_is_the_same(controller):
    rows = [job(n, JobState.PENDING, name="x" * 200) for n in range(1, 1500)]
    controller.answers["ListJobs"] = pb.ListJobsReply(jobs=rows, now=5)
    with Client() as client:
        found = list(client.jobs())
        controller.answers["ListJobs"] = pb.ListJobsReply(jobs=rows[:3], now=5)
        assert list(client.jobs()) == found[:3]
    assert len(found) == 1499
    assert (found[0].time_limit, found[0].spec.components[0].cpus_per_task) == (UNLIMITED, 0)


def test_rubbish_from_the_other_side_is_a_protocol_error(controller):
    controller.answers["ListNodes"] = pb.GetStatusReply(cluster="\x00", pid=2**32 - 1)
    with Client() as client:
        client._connected().call("ListNodes", b"")
        for name in ("ListNodesReply", "SubmitJobsReply"):
            with pytest.raises(CraneError) as caught:
                client._decode(name, b"\xff\xff\xff")
            assert caught.value.code is ErrorCode.PROTOCOL


def test_every_filter_of_a_selection_has_its_field():
    assert Selection().empty
    assert not Selection(names=("x",)).empty
    assert Selection(nodes=("n1",)).filtered


def test_places_are_tried_in_order_and_what_is_said_alone():
    assert [p.address for p in places("/x/s", {})] == ["/x/s"]
    assert [p.address for p in places("unix:/x/s", {})] == ["/x/s"]
    assert [p.address for p in places("head:10011", {})] == ["head:10011"]
    assert [p.address for p in places("", {"CRANE_SOCKET": "/y"})] == ["/y"]
    assert [p.address for p in places("", {"CRANE_HOME": "/h"})] == ["/h/cranectld.sock"]
    with pytest.raises(CraneError) as caught:
        list(places("nonsense", {}))
    assert caught.value.code is ErrorCode.USAGE


def test_a_configuration_file_names_the_socket(controller, tmp_path):
    file = tmp_path / "crane.toml"
    file.write_text(
        f'[controller]\nsocket = "{controller.path}"\n[[nodes]]\nname = "n1"\n'
        '[[partitions]]\nname = "p"\nnodes = "ALL"\n'
    )

    transport = connect("", {"CRANE_CONFIG": str(file)})

    assert transport.path == controller.path
    transport.close()


def test_a_lost_connection_is_made_again_for_questions_only(controller):
    controller.answers |= {
        "ListNodes": pb.ListNodesReply(),
        "CancelJobs": pb.ChangeReply(),
    }
    with Client() as client:
        client.nodes()
        client._transport._socket.close()
        client._transport._socket = gone()
        assert client.nodes() == ()
        client._transport._socket.close()
        client._transport._socket = gone()
        with pytest.raises(CraneError) as caught:
            client.cancel([1])
        assert caught.value.code is ErrorCode.CONTROLLER_UNREACHABLE
        assert "look before trying again" in caught.value.hint
        assert controller.asked("CancelJobs") == []
        assert client.cancel([1]) == ()


def gone() -> socket.socket:
    """A socket whose other end has gone."""
    near, far = socket.socketpair()
    far.close()
    return near
