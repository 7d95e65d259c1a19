"""What becomes of one step: how it ends, what it sees, what it leaves behind."""

from __future__ import annotations

import os
import signal

import pytest

from craned.exec.protocol import Cause, Exited, Key, LaunchFailed, Started, StepLimits


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_exit_code_is_reported_with_times_and_usage(host):
    report = host.run_step(host.order("head -c 20000000 /dev/zero | tail -c 1; exit 7"))
    assert isinstance(report, Exited)
    assert (report.exit_code, report.signal, report.cause) == (7, 0, Cause.EXIT)
    assert 0 < report.start_ns < report.end_ns
    assert report.cpu_us > 0
    assert report.peak_bytes > 0


def test_a_script_that_dies_by_a_signal_reports_it(host):
    report = host.run_step(host.order("kill -9 $$"))
    assert (report.exit_code, report.signal, report.cause) == (0, 9, Cause.EXIT)


def test_a_running_step_is_reported_as_started(host):
    order = host.order("exec sleep 60")
    host.launch(order)
    host.wait(lambda: any(isinstance(r, Started) and r.key == order.key for r in host.reports))
    assert alive(next(r.pid for r in host.reports))


def test_the_time_limit_ends_a_script_that_ignores_sigterm(host):
    order = host.order("trap '' TERM; echo up; while :; do sleep 0.05; done", time_limit=0.2)
    report = host.run_step(order)
    assert (report.signal, report.cause) == (9, Cause.TIMEOUT)
    assert report.end_ns - report.start_ns >= 0.4e9  # limit + grace


def test_a_script_that_ends_well_at_sigterm_has_still_timed_out(host):
    order = host.order("trap 'exit 0' TERM; while :; do sleep 0.05; done", time_limit=0.2)
    report = host.run_step(order)
    assert (report.exit_code, report.signal, report.cause) == (0, 0, Cause.TIMEOUT)


def test_a_new_time_limit_replaces_the_old_one(host):
    order = host.order("echo up; sleep 60", time_limit=3600.0)
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    host.call(host.client.set_time_limit, order.key, 0.0)
    assert host.ended(order).cause is Cause.TIMEOUT


def test_the_warning_signal_comes_before_the_limit(host):
    order = host.order(
        "trap 'echo warned; exit 3' USR1; echo up; while :; do sleep 0.05; done",
        time_limit=60.2, warn_signal=signal.SIGUSR1, warn_before=60, warn_leaders_only=True,
    )  # fmt: skip
    report = host.run_step(order)
    assert (report.exit_code, report.cause) == (3, Cause.EXIT)
    assert "warned" in host.read(f"{order.key.job_id}.out")


def test_cancelling_ends_every_process_of_the_step(host):
    order = host.order("(trap '' TERM; sleep 61) & echo $!; wait")
    host.launch(order)
    child = int(host.wait_file(f"{order.key.job_id}.out"))
    host.call(host.client.kill, order.key, signal.SIGTERM, 0.2, Cause.CANCELLED)
    assert host.ended(order).cause is Cause.CANCELLED
    assert not alive(child)


def test_a_grace_of_zero_kills_at_once(host):
    order = host.order("trap '' TERM; echo up; sleep 60")
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    host.call(host.client.kill, order.key, signal.SIGTERM, 0.0, Cause.PREEMPTED)
    report = host.ended(order)
    assert (report.signal, report.cause) == (9, Cause.PREEMPTED)


def test_a_signal_can_be_sent_to_the_script_alone(host):
    order = host.order("trap 'echo got it; exit 4' USR2; sleep 60 & echo up; wait")
    host.launch(order)
    host.wait_file(f"{order.key.job_id}.out")
    host.call(host.client.signal, order.key, signal.SIGUSR2, leaders_only=True)
    assert host.ended(order).exit_code == 4
    assert "got it" in host.read(f"{order.key.job_id}.out")


def test_background_processes_end_with_the_script(host):
    order = host.order("sleep 62 & echo $!; setsid sh -c 'sleep 63 & echo $!; wait' & sleep 0.2")
    report = host.run_step(order)
    assert report.cause is Cause.EXIT
    left = [int(line) for line in host.read(f"{order.key.job_id}.out").split()]
    assert len(left) == 2
    assert not any(map(alive, left))


def test_nothing_of_ours_leaks_into_the_job(host):
    order = host.order(
        "ls -l /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; pwd; umask",
        umask=0o027,
    )
    host.run_step(order)
    out = host.read(f"{order.key.job_id}.out").splitlines()
    links = [line.rpartition(" -> ")[2] for line in out if " -> " in line]
    own = host.path(f"{order.key.job_id}.out")
    # ls itself has its directory open.
    assert [link for link in links if not link.startswith("/proc/")] == ["/dev/null", own, own]
    assert len(links) == 4
    blocked, ignored = (int(line.split()[1], 16) for line in out if line.startswith("Sig"))
    python_ignores = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert blocked == 0
    assert not ignored & python_ignores
    assert host.directory in out
    assert out[-1] == "0027"


def test_a_script_that_asks_for_its_process_id_finds_it(host):
    order = host.order("echo $$ $SLURM_TASK_PID $CRANE_TASK_PID")
    host.run_step(order)
    own, *told = host.read(f"{order.key.job_id}.out").split()
    assert told == [own, own]


def test_every_task_finds_its_own_process_id_and_nothing_of_ours(host):
    show = "echo $$ $SLURM_TASK_PID $CRANE_TASK_PID; grep -E 'Sig(Blk|Ign)' /proc/self/status; "
    show += "ls /proc/self/fd | wc -l; ps -o sid= -p $$"
    order = host.order(
        key=Key(9_300, 0, 1), argv=("sh", "-c", f"{{ {show}; }} >$R.txt"), ranks=(0, 1),
        task_env=("R={rank}",),
    )  # fmt: skip
    report = host.run_step(order)
    assert (report.exit_code, report.cause) == (0, Cause.EXIT)
    found = [host.read(f"{rank}.txt").split() for rank in (0, 1)]
    for own, slurm, crane, _, blocked, _, ignored, files, session in found:
        assert slurm == crane == session == own
        assert (int(blocked, 16), files) == (0, "4")  # ls has its directory open
        assert not int(ignored, 16) & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
    assert found[0][0] != found[1][0]


def test_a_command_that_cannot_be_executed_is_told_and_leaves_no_process(host):
    with open(os.open(host.path("broken"), os.O_CREAT | os.O_WRONLY, 0o755), "w") as file:
        file.write("no program")
    report = host.run_step(host.order(key=Key(9_400, 0, 1), argv=(host.path("broken"),)))
    assert isinstance(report, LaunchFailed)
    assert "Exec format error" in report.message
    missing = host.run_step(host.order(key=Key(9_401, 0, 1), argv=("no-such-command",)))
    assert (missing.code, "not found in PATH" in missing.message) == ("command", True)


def test_arguments_and_environment_arrive_as_they_were_given(host):
    order = host.order(
        'printf "%s|" "$@" "$NAME"; env | wc -l', argv=("a b", "", "ü"), env=b"NAME=x=y z"
    )
    host.run_step(order)
    out = host.read(f"{order.key.job_id}.out")
    assert out.startswith("a b||ü|x=y z|")
    assert int(out.rpartition("|")[2]) <= 4  # dash adds PWD and the like


def test_output_is_truncated_or_appended_to_as_ordered(host):
    with open(host.path("o"), "w", encoding="utf-8") as file:
        file.write("before\n" * 3)
    host.run_step(host.order("echo one", stdout=host.path("o"), append=True))
    assert host.read("o") == "before\n" * 3 + "one\n"
    host.run_step(host.order("echo two; echo err >&2", stdout=host.path("o")))
    assert host.read("o") == "two\nerr\n"
    host.run_step(host.order("echo x; echo y >&2", stdout=host.path("o"), stderr=host.path("e")))
    assert (host.read("o"), host.read("e")) == ("x\n", "y\n")


def test_standard_input_is_a_file_or_empty(host):
    with open(host.path("in"), "w", encoding="utf-8") as file:
        file.write("hello\n")
    order = host.order("cat", stdin=host.path("in"))
    host.run_step(order)
    assert host.read(f"{order.key.job_id}.out") == "hello\n"
    order = host.order("cat; echo end")
    host.run_step(order)
    assert host.read(f"{order.key.job_id}.out") == "end\n"


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"stdout": "/nowhere/at/all/o"}, "stdout", "/nowhere/at/all does not exist"),
        ({"stderr": "/proc/nothing"}, "stderr", "/proc/nothing"),
        ({"stdin": "/nowhere/in"}, "stdin", "/nowhere/in"),
        ({"cwd": "/nowhere"}, "work_dir", "/nowhere"),
        ({"script": b"echo no interpreter\n"}, "script", "#!/bin/sh"),
        ({"script": b"#!/nowhere/sh\n"}, "script", "/nowhere/sh"),
        ({"script": b"", "argv": ("no-such-command",)}, "command", "no-such-command"),
        ({"script": b"", "argv": ()}, "order", "neither"),
    ],
)
def test_what_cannot_be_started_is_said_with_a_code(plain_host, fields, code, word):
    report = plain_host.run_step(plain_host.order(**({"script": b"#!/bin/sh\n"} | fields)))
    assert isinstance(report, LaunchFailed)
    assert report.code == code
    assert word in report.message


def test_a_script_may_remove_or_rewrite_its_own_file(plain_host):
    script = (
        'echo run; if [ -w "$0" ] || chmod u+w "$0"; then echo : > "$0"; fi; rm -f "$0"; exit 5'
    )
    for _ in range(4):
        assert plain_host.run_step(plain_host.order(script)).exit_code == 5


def test_nothing_of_a_longer_script_runs_after_a_shorter_one(plain_host):
    for _ in range(3):  # of one user, hence one after the other in the same file
        assert plain_host.run_step(plain_host.order("exit 3\n" + "exit 4\n" * 99)).exit_code == 3
        short = plain_host.order(script=b"#!/bin/sh\n:")
        assert plain_host.run_step(short).exit_code == 0


def test_a_script_larger_than_a_socket_buffer_runs(plain_host):
    filler = "# " + "x" * 100 + "\n"
    order = plain_host.order(filler * 40_000 + "echo big; exit 6")
    assert plain_host.run_step(order).exit_code == 6
    assert plain_host.read(f"{order.key.job_id}.out") == "big\n"


def test_two_hundred_quick_jobs_are_each_reported_once(plain_host):
    orders = [plain_host.order("/bin/true") for _ in range(200)]
    for at in range(0, 200, 20):
        plain_host.launch(*orders[at : at + 20])
    for order in orders:
        assert plain_host.ended(order).exit_code == 0
    assert all(len(plain_host.finals(order.key)) == 1 for order in orders)
    plain_host.call(plain_host.client.forget, [order.key for order in orders])
    records = plain_host.path("spool/records")
    plain_host.wait(lambda: os.listdir(records) == [], "every record is forgotten")


def test_the_memory_limit_is_told_apart_from_other_ends(limited_host):
    hog = "head -c 120000000 /dev/zero | tail -c 110000000 > /dev/null; exit 1"
    order = limited_host.order(hog, limits=StepLimits(memory=64))
    report = limited_host.run_step(order)
    assert report.cause is Cause.OUT_OF_MEMORY
    assert 32 << 20 < report.peak_bytes <= 64 << 20
    # The next job in the same place starts from nothing.
    order = limited_host.order("exit 0", limits=StepLimits(memory=64))
    report = limited_host.run_step(order)
    assert report.cause is Cause.EXIT
    assert report.peak_bytes < 32 << 20


def test_limits_are_in_force_inside(limited_host):
    if limited_host.client.cgroup_version != "v1":
        pytest.skip("reads the files of cgroup v1")
    show = (
        "for c in cpu memory pids; do awk -F: -v c=$c '$2 == c {print $3}' /proc/self/cgroup; done"
    )
    order = limited_host.order(
        f"{show}; echo up; sleep 60", limits=StepLimits(cpu=1500, memory=100, pids=50)
    )
    limited_host.launch(order)
    groups = limited_host.wait_file(f"{order.key.job_id}.out", lines=4).split()
    assert len(set(groups[:3])) == 1
    for name, value in (
        ("cpu/{}/cpu.cfs_quota_us", 150_000),
        ("memory/{}/memory.limit_in_bytes", 100 << 20),
        ("pids/{}/pids.max", 50),
    ):
        with open(f"/sys/fs/cgroup/{name.format(groups[0].strip('/'))}", encoding="ascii") as file:
            assert int(file.read()) == value


def test_a_fork_bomb_is_contained_and_killed(limited_host):
    order = limited_host.order(
        "bomb() { bomb | bomb & }; (bomb) & exec sleep 60",
        limits=StepLimits(pids=40), time_limit=0.5, kill_grace=0.0,
    )  # fmt: skip
    assert limited_host.run_step(order).cause is Cause.TIMEOUT


def test_numbered_steps_share_the_job_and_end_with_its_script(host):
    batch = host.order("echo up; while [ ! -e stop ]; do sleep 0.05; done")
    host.launch(batch)
    host.wait_file(f"{batch.key.job_id}.out")
    step = host.order(
        key=Key(batch.key.job_id, 0, 1), argv=("sh", "-c", "echo step; sleep 64"),
        stdout=host.path("step"),
    )  # fmt: skip
    other = host.order(key=Key(batch.key.job_id, 1, 1), argv=("sh", "-c", "exit 9"))
    host.launch(step)
    host.wait_file("step")
    assert host.run_step(other).exit_code == 9
    with open(host.path("stop"), "w", encoding="utf-8"):
        pass
    assert host.ended(batch).exit_code == 0
    assert host.ended(step).signal == 9


def test_a_numbered_step_runs_on_a_host_without_the_script(host):
    order = host.order(key=Key(900, 0, 1), argv=("sh", "-c", "exit 2"))
    assert host.run_step(order).exit_code == 2
