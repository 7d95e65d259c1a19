"""The lease as the shims keep it: from the file alone, whoever else is dead."""

from __future__ import annotations

import math
import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craned.core.lease import claim, hold
from craned.core.state import AgentState
from craned.core.terms import KEPT_LOOK, LOST_CONTACT, runs_out
from craned.exec.lease import SIZE, LastWord, LeaseWatch, read_word, since_boot, write_word
from craned.exec.protocol import Cause, Exited, LaunchFailed

S = 1_000_000_000
STUBBORN = "trap '' TERM; echo $$; while :; do sleep 0.02; done"


def word(lease: float, *, renewed: int = 0, kill: bool = True) -> LastWord:
    return LastWord("boot", 3, int(lease * S), kill, renewed)


def say(host, lease: float, *, age: float = 0, kill: bool = True) -> int:
    """Write the host's lease file; when what it says was renewed."""
    renewed = since_boot() - int(age * S)
    write_word(host.path("contact"), word(lease, renewed=renewed, kill=kill))
    return renewed


# --- the file -----------------------------------------------------------------------------------


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.booleans(), st.integers(-(2**62), 2**62))
@settings(deadline=None, max_examples=50)
def test_what_was_written_is_read(tmp_path_factory, epoch, lease, kill, renewed):
    path = str(tmp_path_factory.mktemp("w") / "contact")
    for number in (epoch, 0, epoch):  # also over one of another length
        said = LastWord("6f1f3c2a-0000-4000-8000-0123456789ab", number, lease, kill, renewed)
        write_word(path, said)
        assert read_word(path) == said
    assert os.stat(path).st_size == SIZE
    assert os.stat(path).st_mode & 0o777 == 0o600


@given(st.integers(0, SIZE - 1), st.integers(1, 255))
@settings(deadline=None, max_examples=100)
def test_a_damaged_file_says_nothing_or_what_it_said(tmp_path_factory, at, mask):
    path = tmp_path_factory.mktemp("w") / "contact"
    said = word(60, renewed=123456789)
    write_word(str(path), said)
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)
    assert read_word(str(path)) in (None, said)
    path.write_bytes(data[:at])
    assert read_word(str(path)) in (None, said)


def test_no_file_says_nothing(tmp_path):
    assert read_word(str(tmp_path / "contact")) is None


# --- the watch, by a clock of its own -----------------------------------------------------------


class Scene:
    """A watch that is asked whenever it wants to be, between events."""

    def __init__(self, path: str, lease: int) -> None:
        self.path, self.lease, self.now = path, lease, 1000 * S
        self.renewed = self.now
        self.renew()
        self.watch = LeaseWatch(path, lambda: self.now)
        self.looks = 0

    def renew(self, *, kill: bool = True) -> None:
        self.renewed = self.now
        write_word(self.path, LastWord("boot", 1, self.lease, kill, self.renewed))

    def pass_time(self, nanoseconds: int) -> int | None:
        """When the watch said that the lease is over; None: it has not."""
        end = self.now + nanoseconds
        while not self.watch.over():
            due = self.now + math.ceil(min(self.watch.wait(), 1e6) * S)
            if due > end:
                self.now = end
                return None
            self.now = max(due, self.now + 1)
            self.looks += 1
        return self.now


actions = st.lists(st.tuples(st.floats(0, 0.7), st.sampled_from(["renew", "delete", "spoil"])))


@given(actions, st.integers(S, 1000 * S))
@settings(deadline=None, max_examples=100)
def test_no_file_lengthens_the_lease_of_the_last_contact(tmp_path_factory, history, lease):
    scene = Scene(str(tmp_path_factory.mktemp("w") / "contact"), lease)
    over = None
    for share, action in [*history, (2.0, "renew")]:
        over = scene.pass_time(int(share * lease))
        if over is not None:
            break
        if action == "renew":
            scene.renew()
        elif action == "delete" and os.path.exists(scene.path):
            os.unlink(scene.path)
        elif action == "spoil":
            with open(scene.path, "wb") as file:
                file.write(b"00000000 {}")
    assert over is not None
    assert over <= runs_out(scene.renewed, lease) + 1000, "rounded to a float of seconds"


@given(st.lists(st.floats(0.3, 0.39), max_size=30), st.data())
@settings(deadline=None, max_examples=100)
def test_a_lease_renewed_every_third_of_it_is_never_over(tmp_path_factory, gaps, data):
    lease = 60 * S
    scene = Scene(str(tmp_path_factory.mktemp("w") / "contact"), lease)
    lost = False
    for gap in gaps:
        assert scene.pass_time(int(gap * lease)) is None
        # Even if every other file is lost before it was looked at.
        lost = not lost and data.draw(st.booleans())
        scene.renew()
        if lost:
            os.unlink(scene.path)
    assert scene.looks <= 8 * (len(gaps) + 1), "and costs few looks"


def test_a_lease_that_is_renewed_is_looked_at_twice_in_its_time(tmp_path):
    scene = Scene(str(tmp_path / "contact"), 60 * S)
    for _ in range(600):
        assert scene.pass_time(S) is None
        scene.renew()
    assert scene.looks <= 600 * 2 / 60 + 2


def test_a_job_is_kept_as_long_as_the_file_says_so(tmp_path):
    scene = Scene(str(tmp_path / "contact"), 60 * S)
    scene.renew(kill=False)
    assert scene.pass_time(1000 * S) is None
    os.unlink(scene.path)
    assert scene.pass_time(1000 * S) is None, "a file that is lost takes no word back"
    assert scene.looks <= 1000 // 15 + 4 * 1000 // 15 + 3
    scene.renew()
    assert scene.pass_time(1000 * S) == runs_out(scene.renewed, scene.lease)


def test_a_step_that_was_launched_to_be_kept_needs_no_file_and_reads_none(tmp_path):
    now = 1000 * S
    watch = LeaseWatch(str(tmp_path / "contact"), lambda: now, leased=False)
    assert not watch.over()
    assert watch.wait() == KEPT_LOOK / S


terms = st.tuples(st.booleans(), st.integers(S, 200 * S), st.integers(0, 12))


@given(st.lists(terms, min_size=1, max_size=6), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_steps_go_by_the_terms_that_their_agent_says_are_settled(
    tmp_path_factory, history, leased, waits
):
    scene = Scene(str(tmp_path_factory.mktemp("w") / "contact"), 60 * S)
    state = AgentState(jobs={1: {}}, lease=60 * S, kill=leased)
    scene.renew(kill=leased)
    scene.watch = LeaseWatch(scene.path, lambda: scene.now, leased=leased)
    for kill, duration, quarters in history:
        # when the site has it otherwise, and craned works on for a while
        hold(state, duration, kill, scene.now)
        scene.lease = duration
        scene.renew(kill=kill)
        for _ in range(quarters):
            assert scene.pass_time(duration // 4) is None, "nobody is ended while it is renewed"
            scene.renew(kill=kill)
    while waits and scene.now < state.settled:
        assert scene.pass_time(duration // 4) is None
        scene.renew(kill=kill)
    # then, when it says that all is settled and dies, the step ends with the lease or is kept
    settled = scene.now >= state.settled
    assert claim(state, scene.now) == (duration if kill and settled else 0)
    over = scene.pass_time(1000 * S)
    if settled:
        assert (over is not None) == kill
        assert over is None or over <= runs_out(scene.renewed, duration) + 1000


def test_the_word_of_an_earlier_run_of_the_host_is_none(tmp_path):
    path = str(tmp_path / "contact")
    write_word(path, word(60, renewed=5000 * S))
    assert LeaseWatch(path, lambda: 100 * S).over()


# --- real steps ---------------------------------------------------------------------------------


def test_a_step_is_ended_with_its_lease_and_killed_a_grace_later(host):
    renewed = say(host, 1.0)
    report = host.run_step(host.order(STUBBORN, leased=True))
    assert isinstance(report, Exited)
    assert (report.cause, report.message, report.signal) == (Cause.LOST, LOST_CONTACT, 9)
    lived = since_boot() - renewed
    assert 1.2e9 < lived < 2.3e9, "lease less a tenth, grace, and a little"


def test_a_step_may_end_well_in_its_grace(plain_host):
    say(plain_host, 0.5)
    script = "trap 'echo term; exit 0' TERM; while :; do sleep 0.02; done"
    report = plain_host.run_step(plain_host.order(script, leased=True))
    assert (report.cause, report.exit_code, report.signal) == (Cause.LOST, 0, 0)


def test_what_is_noticed_late_gets_only_what_is_left_of_its_grace(plain_host):
    host = plain_host
    renewed = say(host, 1.0)
    order = host.order(STUBBORN, leased=True, kill_grace=2.0)
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    launcher, process = host.launcher_pid(), host.client._process
    host.run(host.client.close())
    os.kill(launcher, signal.SIGKILL)  # it would wake the shim
    process.returncode = None
    process.wait()
    (shim,) = [
        int(name[:-5]) for name in os.listdir(host.path("spool/shims")) if name.endswith(".sock")
    ]
    os.kill(shim, signal.SIGSTOP)
    host.wait(lambda: since_boot() > renewed + int(2.4 * S), "a grace nearly over")
    os.kill(shim, signal.SIGCONT)
    host.wait(lambda: not os.listdir(host.path("spool/shims")), "the shim has left")
    assert since_boot() - renewed < 3.8 * S, "lease and grace, and not another grace"
    host.connect()


def test_a_renewed_lease_and_another_steps_policy_end_nothing(plain_host):
    say(plain_host, 0.8)
    go = "i=0; while [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); echo $i; done"
    leased = plain_host.order(go, leased=True)
    kept = plain_host.order(go + "; exit 4")
    plain_host.launch(leased, kept)
    for lines in range(1, 18):
        plain_host.wait_file(f"{leased.key.job_id}.out", lines)
        say(plain_host, 0.8)
    say(plain_host, 0.8, kill=False)
    assert plain_host.ended(leased).cause is Cause.EXIT
    assert plain_host.ended(kept).exit_code == 4


def test_nothing_is_launched_without_a_lease(plain_host):
    def refused() -> LaunchFailed:
        report = plain_host.run_step(plain_host.order("echo ran >> ran", leased=True))
        assert isinstance(report, LaunchFailed)
        return report

    assert refused().code == "lease"
    say(plain_host, 5, age=4.6)
    assert "lease has run out" in refused().message
    assert not os.path.exists(plain_host.path("ran"))
    say(plain_host, 60)
    assert plain_host.run_step(plain_host.order("exit 3", leased=True)).exit_code == 3


@pytest.mark.parametrize("damage", ["left", "deleted", "spoiled"])
def test_a_shim_needs_nobody_to_keep_the_lease(host, damage):
    renewed = say(host, 1.0)
    order = host.order(STUBBORN, leased=True)
    host.launch(order)
    pid = int(host.wait_file(f"{order.key.job_id}.out"))
    launcher, process = host.launcher_pid(), host.client._process
    host.run(host.client.close())
    os.kill(launcher, signal.SIGKILL)
    if damage == "deleted":
        os.unlink(host.path("contact"))
    elif damage == "spoiled":
        os.truncate(host.path("contact"), 20)
    host.wait(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    assert since_boot() - renewed < 2.3e9
    host.wait(lambda: not os.listdir(host.path("spool/shims")), "the shim has left")
    snapshot = host.connect()
    process.returncode = None
    process.wait()
    assert [(r.key, r.cause) for r in snapshot.ended] == [(order.key, Cause.LOST)]
