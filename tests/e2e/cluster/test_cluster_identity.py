"""Two ordinary users and root: each runs as himself, sees all, and changes only what is his."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

ALICE, BOB = 54_331, 54_332
"""No passwd entry is needed: users without one go by their number."""

AS_USER = """
import importlib, json, os, pkgutil, shutil, sys, tempfile
import cli, crane
# Everything is imported before: the interpreter's library may be closed to ordinary users.
for package in (cli, crane):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
uid, directory = sys.argv[1:]
os.setgroups([])
os.setgid(int(uid))
os.setuid(int(uid))
os.chdir(directory)
for line in sys.stdin:
    name, *words = json.loads(line)
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        for number, (_, end) in enumerate(pipes, start=1):
            os.dup2(end, number)
        status = importlib.import_module("cli." + name).main(words)
        sys.stdout.flush()
        os._exit(status)
    for _, end in pipes:
        os.close(end)
    texts = [open(end).read() for end, _ in pipes]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, *texts]), flush=True)
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: acts as two ordinary users"),
]


class User:
    """An ordinary user with a home nobody else may look into."""

    def __init__(self, cluster, uid):
        self.cluster, self.uid = cluster, uid
        self.home = cluster.file(f"home{uid}")
        os.mkdir(self.home, 0o700)
        os.chown(self.home, uid, uid)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", AS_USER, str(uid), self.home],
            env=cluster.environment(PYTHONPATH=os.pathsep.join(sys.path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *words):
        """Run one of the commands as this user."""
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        status, out, err = json.loads(self.process.stdout.readline())
        return subprocess.CompletedProcess(words, status, out, err)

    def close(self):
        self.process.communicate()

    def submit(self, body, *options):
        done = self.run("csub", "--parsable", "-o", "%j.out", *options, "--wrap", body)
        assert (done.returncode, done.stderr) == (0, ""), done
        return int(done.stdout)

    def path(self, name):
        return os.path.join(self.home, name)


@pytest.fixture
def users(cluster):
    both = User(cluster, ALICE), User(cluster, BOB)
    yield both
    for user in both:
        user.close()


def test_a_job_runs_as_its_user_and_its_files_are_his(cluster, users):
    for user in users:
        job = user.submit("id -u; id -g; id -G; touch made; umask; echo $USER $SLURM_JOB_UID")
        done = cluster.wait(job)
        assert (done.state.name, done.uid, done.user) == ("COMPLETED", user.uid, str(user.uid))
        with open(user.path(f"{job}.out"), encoding="utf-8") as file:
            lines = file.read().split()
        assert lines[:3] == [str(user.uid)] * 3
        assert lines[-1] == str(user.uid)
        for name in (f"{job}.out", "made"):
            status = os.stat(user.path(name))
            assert (status.st_uid, status.st_gid) == (user.uid, user.uid)


def test_a_gang_runs_as_its_user_on_every_node(cluster, users):
    alice, _ = users
    body = f"[ -x {sys.executable} ] || exit 77; srun -N 2 sh -c 'id -u; id -g'"
    job = alice.submit(body, "-N", "2")
    done = cluster.wait(job)
    if done.exit_code == 77:
        pytest.skip(f"{sys.executable}, which srun runs by, is closed to ordinary users")
    assert done.state.name == "COMPLETED"
    with open(alice.path(f"{job}.out"), encoding="utf-8") as file:
        assert file.read().split() == [str(ALICE)] * 4


def test_nobody_touches_anothers_job(cluster, users):
    alice, bob = users
    running = alice.submit("sleep 900")
    held = alice.submit("true", "--hold")
    cluster.becomes(running, "RUNNING")
    cluster.confirmed(running)
    before = {job: cluster.job(job) for job in (running, held)}
    refused = [
        ("ccancel", str(running)),
        ("ccancel", "--signal", "USR1", str(running)),
        ("ccontrol", "hold", str(held)),
        ("ccontrol", "release", str(held)),
        ("ccontrol", "requeue", str(running)),
        ("ccontrol", "update", f"JobId={held}", "Comment=mine"),
    ]
    for words in refused:
        done = bob.run(*words)
        assert (done.returncode, done.stdout) == (4, ""), (words, done)
        assert f"belongs to user {ALICE}" in done.stderr
    assert {job: cluster.job(job) for job in (running, held)} == before
    # filters find only what is one's own
    bob.run("ccancel", "-y", "-u", str(ALICE))
    bob.run("ccancel", "-y", "--me")
    assert [cluster.state(job) for job in (running, held)] == ["RUNNING", "PENDING"]
    # everybody sees it, though
    assert bob.run("cqueue", "-h", "-j", str(held), "-o", "%i|%u").stdout == f"{held}|{ALICE}\n"
    assert alice.run("ccancel", str(running), str(held)).returncode == 0
    assert cluster.wait(running).cancelled_by == ALICE


def test_what_is_an_operators_is_refused_to_others(cluster, users):
    _, bob = users
    before = cluster.client.status().seq
    for words in (
        ("ccontrol", "update", "NodeName=n1", "State=drain", "Reason=mine"),
        ("ccontrol", "reconfigure"),
        ("csub", "--priority", "4000000", "--wrap", "true"),
    ):
        done = bob.run(*words)
        assert (done.returncode, done.stdout) == (4, ""), (words, done)
        assert "may not" in done.stderr
    assert cluster.client.status().seq == before
    held = bob.submit("true", "--hold")
    # root may do everything, and what root holds only root releases
    cluster.out(f"ccontrol release {held}")
    cluster.wait(held)
    other = bob.submit("true", "-b", "now+1hour")
    cluster.out(f"ccontrol hold {other}")
    assert cluster.reason(other) == "JobHeldAdmin"
    assert bob.run("ccontrol", "release", str(other)).returncode == 4


def test_files_are_opened_with_the_users_rights(cluster, users):
    alice, bob = users
    secret = alice.path("secret")
    with open(secret, "w", encoding="utf-8") as file:
        file.write("secret\n")
    os.chmod(secret, 0o600)
    os.chown(secret, ALICE, ALICE)
    # refused when it is submitted, where it can be seen then
    done = bob.run("csub", "-o", alice.path("out"), "--wrap", "true")
    assert (done.returncode, done.stdout) == (6, "")
    # and told when it is launched, where it could not
    job = bob.submit("cat", "-i", secret)
    ended = cluster.wait(job)
    assert (ended.state.name, ended.reason.word) == ("FAILED", "JobLaunchFailure")
    assert secret in ended.reason_text
    job = bob.submit(f"cat {secret}")
    assert cluster.wait(job).state.name == "FAILED"


def test_a_user_without_rights_cannot_read_the_keys_and_the_log(cluster, users):
    _, bob = users
    files = f"{cluster.path('key')} {cluster.path('state')}/*.db {cluster.path('n1', 'spool')}/*"
    job = bob.submit(f"for f in {files}; do [ -r $f ] && [ -f $f ] && echo $f; done; true")
    assert cluster.wait(job).state.name == "COMPLETED"
    with open(bob.path(f"{job}.out"), encoding="utf-8") as file:
        assert file.read() == ""
