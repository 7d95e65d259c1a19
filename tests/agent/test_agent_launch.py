"""From the controller's order to the launcher's: files, environment, devices, limits, ranks."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from crane.config.model import DeviceGroup, DeviceSlot
from crane.errors import CraneError, ErrorCode
from crane.jobspec import (
    BATCH_STEP,
    ArraySpec,
    BlobRef,
    Component,
    JobSpec,
    OpenMode,
    Submission,
)
from crane.session import (
    ArrayPlace,
    LaunchStep,
    NodeShare,
    SlotShare,
    StepKey,
    StepLayout,
    StepRequest,
)
from craned.accounts import User
from craned.exec.environment import decode_environment
from craned.exec.identity import Account
from craned.exec.protocol import CONNECT, NULL, LaunchOrder, decode_order
from craned.launch import LaunchMaker

S = 1_000_000_000
NOW = 1_000 * S
UID = os.geteuid()
USER = User(Account(UID, 5, "ann", "/home/ann", "/bin/sh", (5, 7)), "staff", b"HOME=/home/ann")
BLOBS = (
    b"#!/bin/sh\n",
    b"PATH=/opt/bin\0HOME=/elsewhere\0LANG=C",
    b"prog\0x\0",
    b"PATH=/p\0MASTER_ADDR=mine",
)
SPEC: dict[str, Any] = {"work_dir": "/home/ann/dir"}


def order(job: int = 7, step: int = BATCH_STEP, spec: JobSpec | None = None, **given: Any) -> Any:
    submission = Submission(
        spec or JobSpec(**SPEC), "my/job", BlobRef(1, 0), BlobRef(1, 1), args=("a", "b c")
    )
    fields: dict[str, Any] = {
        "submission": submission, "shares": (NodeShare("n1", 1500, 64),), "addresses": ("h1",),
        "partition": "main", "start_time": 5 * S,
    }  # fmt: skip
    return LaunchStep(StepKey(job, step, 2), UID, 5, "ann", **fields | given)


def made(
    maker: LaunchMaker | None = None, blobs: tuple[bytes, ...] = BLOBS, **given: Any
) -> LaunchOrder:
    maker = maker or LaunchMaker("n1", "/state/bin")
    result = maker.make(order(**given), blobs, USER, NOW)
    assert decode_order(result.encode()) == result, "the launcher can read it"
    return result


def env_of(result: LaunchOrder) -> dict[str, str]:
    return decode_environment(result.env)


def test_a_controller_whose_clock_was_set_forward_lengthens_no_limit() -> None:
    ahead = NOW + 3_600 * S
    assert made(start_time=ahead, end_time=ahead + 90 * S).time_limit == 90.0


def test_a_batch_step() -> None:
    result = made(end_time=NOW + 90 * S, kill_grace=9)
    assert (result.script, result.argv) == (BLOBS[0], ("a", "b c"))
    assert (result.cwd, result.stdin, result.stderr) == ("/home/ann/dir", NULL, "")
    assert result.stdout == "/home/ann/dir/crane-7.out"
    assert (result.limits.cpu, result.limits.memory) == (1500, 64)
    assert result.limits.pids > 0
    assert (result.time_limit, result.kill_grace) == (90.0, 9.0)
    assert (result.uid, result.gid, result.groups) == (UID, 5, (5, 7))
    env = env_of(result)
    assert env["HOME"] == "/elsewhere", "the job's own comes over a login's"
    assert env["PATH"] == "/state/bin:/opt/bin"
    assert (env["SLURM_JOB_ID"], env["CRANE_JOB_NAME"]) == ("7", "my/job")
    assert (env["SLURM_CPUS_ON_NODE"], env["SLURM_JOB_GROUP"]) == ("2", "staff")
    assert "SLURM_JOB_END_TIME" in env
    assert "SLURM_NTASKS_PER_NODE" not in env
    assert "MASTER_ADDR" not in env


def test_the_directory_submitted_from_and_the_submitters_umask() -> None:
    spec = JobSpec(work_dir="/scratch", submit_dir="/home/ann", submit_host="login", umask=0o27)
    result = made(spec=spec)
    env = env_of(result)
    assert (result.cwd, result.umask) == ("/scratch", 0o27)
    assert (env["SLURM_SUBMIT_DIR"], env["CRANE_SUBMIT_DIR"]) == ("/home/ann", "/home/ann")
    assert (env["SLURM_SUBMIT_HOST"], env["SLURM_UMASK"]) == ("login", "0027")
    kept = LaunchMaker("n1", "/state/bin")
    for other in (spec, replace(spec, umask=0), replace(spec, submit_dir="/"), JobSpec(**SPEC)):
        assert made(kept, spec=other) == made(spec=other)


@pytest.mark.parametrize(
    ("told", "mask"), [(None, 0o22), (0, 0), (0o77, 0o77), (0o1000, 0), (0o7777, 0o777)]
)
def test_a_umask_is_within_the_permissions(told: int | None, mask: int) -> None:
    assert made(spec=JobSpec(**SPEC, umask=told)).umask == mask


@pytest.mark.parametrize(
    ("told", "mask"),
    [(b"", 0o26), (b"\0CRANE_UMASK=0077", 0o77), (b"\0CRANE_UMASK=0", 0),
     (b"\0CRANE_UMASK=xyz", 0o26), (b"\0CRANE_UMASK=-1", 0o26), (b"\0CRANE_UMASK=7777", 0o777)],
)  # fmt: skip
def test_a_step_has_the_umask_crun_was_called_with(told: bytes, mask: int) -> None:
    blobs = (*BLOBS[:3], BLOBS[3] + told)
    assert crun(spec=JobSpec(**SPEC, umask=0o26), blobs=blobs).umask == mask


def test_cpus_per_task_are_told_to_the_one_who_asked_for_them() -> None:
    half = Component(cpus_per_task=1500, cpus_given=True)
    for cpus, component in ((0, Component()), (1, Component(cpus_given=True)), (2, half)):
        env = env_of(made(spec=JobSpec((component,), **SPEC)))
        assert env.get("SLURM_CPUS_PER_TASK", "0") == str(cpus)


def test_file_patterns_and_open_mode() -> None:
    spec = JobSpec(
        work_dir="/w", stdin="in/%a", stdout="%A_%4a-%x-%N-%u.%t", stderr="/abs/%j",
        open_mode=OpenMode.APPEND,
    )  # fmt: skip
    result = made(spec=spec, job=12, array=ArrayPlace(10, 3, ArraySpec(((1, 9, 2),))))
    assert (result.stdin, result.stderr) == ("/w/in/3", "/abs/12")
    assert result.stdout == "/w/10_0003-my_job-n1-ann.0"
    assert result.append


def test_a_deadline_that_has_passed_leaves_no_time() -> None:
    assert made(end_time=NOW - S).time_limit == 0.0
    assert made().time_limit < 0


def test_the_warning_goes_where_the_user_said() -> None:
    script = made(spec=JobSpec(**SPEC, signal="B:USR1@30"))
    assert (script.warn_signal, script.warn_before, script.warn_leaders_only) == (10, 30, True)
    steps = JobSpec(**SPEC, signal="USR2@60")
    assert made(spec=steps).warn_signal == 0
    assert crun(spec=steps).warn_signal == 12


def test_jobs_of_one_shape_share_variables_and_nothing_else() -> None:
    kept = LaunchMaker("n1", "/state/bin")
    variants: list[dict[str, Any]] = [
        {"job": 1, "end_time": NOW + S, "restarts": 4},
        {"job": 2},
        {"job": 3, "array": ArrayPlace(3, 5, ArraySpec(((5, 9, 1),)))},
        {"job": 4, "array": ArrayPlace(3, 6, ArraySpec(((5, 9, 1),))), "start_time": 77 * S},
        {"job": 5, "partition": "other"},
        {"job": 6, "spec": JobSpec(**SPEC, account="acc")},
        {"job": 7, "shares": (NodeShare("n1", 9000),)},
        {"job": 8, "spec": JobSpec((Component(ntasks_per_node=2, mem_per_cpu=9),), **SPEC)},
        {"job": 9, "shares": (NodeShare("n0", 1), NodeShare("n1", 1)), "addresses": ("a", "b")},
    ]
    for variant in [*variants, *reversed(variants)]:
        assert env_of(made(kept, **variant)) == env_of(made(**variant)), variant


def test_devices_that_are_not_held_are_denied_and_invisible() -> None:
    group = DeviceGroup(
        "gpu", "a100", (DeviceSlot(("/dev/g0",)), DeviceSlot(("/dev/g1",))),
        (("CUDA_VISIBLE_DEVICES", "{indices}"),), ("/dev/ctl",),
    )  # fmt: skip
    maker = LaunchMaker("n1", "", (group,))
    none = made(maker)
    assert set(none.devices_denied) == {"/dev/g0", "/dev/g1", "/dev/ctl"}
    assert env_of(none)["CUDA_VISIBLE_DEVICES"] == ""
    share = NodeShare("n1", 1000, slots=(SlotShare("gpu", "a100", (1,)),))
    one = made(maker, shares=(share,))
    assert one.devices_denied == ("/dev/g0",)
    assert env_of(one)["CUDA_VISIBLE_DEVICES"] == "1"
    assert env_of(one)["SLURM_JOB_GPUS"] == "1"
    maker.declare("c", ())
    assert made(maker, shares=(share,)).devices_denied == (), "declared anew"
    wrong = NodeShare("n1", 1000, slots=(SlotShare("gpu", "a100", (9,)),))
    with pytest.raises(CraneError, match="no slot 9"):
        made(LaunchMaker("n1", "", (group,)), shares=(wrong,))


def crun(**given: Any) -> LaunchOrder:
    request = StepRequest(
        argv=BlobRef(1, 2), environment=BlobRef(1, 3), work_dir="/step",
        endpoint="h9:1234", ticket=b"tick", cpus_per_task=2000, stdin_mode=given.pop("stdin", "all"),
        rendezvous=given.pop("rendezvous", ""),
    )  # fmt: skip
    layout = StepLayout(("n0", "n1"), (2, 3))
    shares = (NodeShare("n9", 1), NodeShare("n0", 2000), NodeShare("n1", 3000))
    return made(
        step=0, shares=shares, addresses=("h9", "h0", "h1"), request=request, layout=layout,
        **given,
    )  # fmt: skip


def test_a_step_of_crun_has_its_ranks_in_blocks() -> None:
    result = crun()
    assert (result.ranks, result.node_id) == ((2, 3, 4), 1)
    assert (result.argv, result.cwd, result.script) == (("prog", "x"), "/step", b"")
    assert (result.stdin, result.stdout, result.stderr) == (CONNECT, CONNECT, CONNECT)
    assert (result.connect, result.ticket) == ("h9:1234", "tick")
    env = env_of(result)
    assert (env["SLURM_STEP_NUM_TASKS"], env["SLURM_NODEID"]) == ("5", "1")
    assert (env["SLURM_STEP_TASKS_PER_NODE"], env["SLURM_CPUS_PER_TASK"]) == ("2,3", "2")
    assert env["CRANE_MASTER_ADDR"] == "h9"
    assert env["MASTER_ADDR"] == "mine", "the user's own survives"
    assert any(entry == "SLURM_PROCID={rank}" for entry in result.task_env)


def test_rendezvous_is_set_for_the_one_who_asks() -> None:
    env = env_of(crun(rendezvous="torch"))
    assert (env["MASTER_ADDR"], env["WORLD_SIZE"], env["NODE_RANK"]) == ("h0", "5", "1")


@pytest.mark.parametrize(
    ("mode", "stream"), [("all", CONNECT), ("none", NULL), ("3", CONNECT), ("0", NULL)]
)
def test_input_goes_only_where_it_is_wanted(mode: str, stream: str) -> None:
    assert crun(stdin=mode).stdin == stream


def test_an_agent_of_an_ordinary_user_runs_nobody_elses_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: UID + 1)
    with pytest.raises(CraneError, match="run craned as root") as caught:
        made()
    assert caught.value.code is ErrorCode.LAUNCH_FAILED


def test_a_ticket_that_is_no_text_is_refused() -> None:
    request = StepRequest(argv=BlobRef(1, 2), endpoint="h:1", ticket=b"\xff\x00")
    with pytest.raises(CraneError, match="ticket"):
        made(step=0, request=request, layout=StepLayout(("n1",), (1,)))
    with pytest.raises(CraneError, match="no task on n1"):
        made(step=0, request=request, layout=StepLayout(("n5",), (1,)))
