"""With `lost_contact = kill` nothing outlives lease and grace, whoever was killed; with `keep` all do."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from typing import Any

import pytest

from crane.session import EndCause

STUBBORN = "trap '' TERM; echo $$; while :; do sleep 0.02; done"
TICKING = "while :; do sleep 0.05; echo tick; done"
GRACE = 1
SLACK = 1.0
"""Seconds that a busy host may be late."""


def kill_launcher(rig: Any) -> None:
    """SIGKILL to the process that listens at the launcher's socket (unix(7), SO_PEERCRED)."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(rig.path("state/spool/launcher.sock"))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)
    rig.controller.wait(rig._launcher_gone, "the launcher's death")


def ticks(rig: Any, job: int) -> int:
    return rig.read(f"{job}.out").count("tick")


@pytest.mark.parametrize("launcher_too", [False, True])
def test_jobs_are_killed_in_time_without_their_agent(rig: Any, launcher_too: bool) -> None:
    controller = rig.controller
    controller.lease, controller.lost_contact = 1.5, "kill"
    rig.start_craned()
    rig.launch(1, STUBBORN, kill_grace=GRACE)
    rig.launch(2, STUBBORN, kill_grace=GRACE)
    pids = [int(rig.wait_line(f"{job}.out")) for job in (1, 2)]
    rig.stop_craned(signal.SIGKILL)
    last_word = time.time_ns()
    if launcher_too:
        kill_launcher(rig)
    controller.wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "their end")
    assert time.time_ns() < last_word + (controller.lease + GRACE + SLACK) * 1e9
    # and the next agent says why
    rig.start_craned(sessions=2)
    for job in (1, 2):
        end = controller.ended(job)
        assert (end.cause, end.signal, end.released) == (EndCause.LOST, 9, True)
        assert "lost_contact" in end.message


def test_an_agent_that_is_back_in_time_keeps_its_jobs(rig: Any) -> None:
    controller = rig.controller
    controller.lease, controller.lost_contact = 4.0, "kill"
    rig.start_craned()
    rig.launch(1, TICKING)
    rig.wait_line("1.out")
    rig.stop_craned(signal.SIGKILL)
    kill_launcher(rig)
    rig.start_craned(sessions=2)
    back = time.monotonic()
    controller.wait(
        lambda: time.monotonic() > back + controller.lease + 0.5, "the end of the first lease"
    )
    before = ticks(rig, 1)
    controller.wait(lambda: ticks(rig, 1) > before + 3, "that it goes on")
    assert controller.ends(1) == []


def test_kept_jobs_outlive_agent_and_launcher(rig: Any) -> None:
    controller = rig.controller
    controller.lease = 0.5
    rig.start_craned()
    rig.launch(1, TICKING, kill_grace=0)
    rig.wait_line("1.out")
    rig.stop_craned(signal.SIGKILL)
    kill_launcher(rig)
    before = ticks(rig, 1)
    controller.wait(lambda: ticks(rig, 1) > before + 30, "that it goes on for three leases")
    rig.start_craned(sessions=2)
    assert controller.ends(1) == []


def test_a_shorter_lease_reaches_steps_that_run_and_the_controller_is_told(rig: Any) -> None:
    controller = rig.controller
    controller.lease, controller.lost_contact = 4.0, "kill"
    rig.start_craned()
    rig.launch(1, STUBBORN, kill_grace=GRACE)
    pid = int(rig.wait_line("1.out"))
    controller.lease = 1.0
    controller.drop()
    controller.connected(2)
    assert controller.hellos[-1].held_lease == 4.0
    controller.wait(lambda: controller.hellos[-1].held_lease == 1.0, "that all go by it")
    # when the agent is gone then, the step ends with the new lease
    rig.stop_craned(signal.SIGKILL)
    last_word = time.time_ns()
    controller.wait(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    assert time.time_ns() < last_word + (controller.lease + GRACE + SLACK) * 1e9
    rig.start_craned(sessions=4)
    assert controller.ended(1).cause is EndCause.LOST


def test_a_welcome_alone_renews_no_lease(rig: Any) -> None:
    controller = rig.controller
    controller.lease, controller.lost_contact, controller.heartbeat = 300.0, "kill", 3600.0
    rig.start_craned()
    # given a controller that welcomes the agent again and again, and never registers it
    controller.answering = False
    controller.lease = 6000.0
    begun = time.monotonic()
    controller.drop()
    controller.wait(lambda: len(controller.hellos) >= 4, "three sessions more")
    # then the agent still goes by what that controller has heard, as the controller itself does
    status = rig.status()
    assert not status.connected
    assert 0 < status.lease_left < 300.0 - (time.monotonic() - begun)


def test_an_agent_that_cannot_write_the_lease_down_launches_nothing(rig: Any) -> None:
    controller = rig.controller
    controller.lost_contact = "kill"
    os.makedirs(rig.path("state/contact"))
    rig.start_craned(obeyed=False)
    rig.wait_line("craned.log", "the lease cannot be kept on disk")
    os.rmdir(rig.path("state/contact"))
    controller.wait(lambda: rig.status().connected, "obeyed")
    rig.launch(1, "exit 3")
    assert controller.ended(1).exit_code == 3
