"""Bad input through the real commands: one clear error, its exit status, and nothing changed."""

from __future__ import annotations

import os

import pytest

# arguments of csub, exit status, words of the message
SUBMISSIONS = [
    ("--partitoin main --wrap true", 2, "did you mean --partition?"),
    ("-t 1:2:3:4 --wrap true", 2, "-t"),
    ("--mem 4X --wrap true", 2, "invalid amount of memory"),
    ("-w n[1 --wrap true", 2, "invalid node list"),
    ("-a 5-1 --wrap true", 2, "invalid array"),
    ("-d afterok:x --wrap true", 2, "invalid dependency"),
    ("-d afterok:424242 --wrap true", 2, "424242"),
    ("-d sometimes:1 --wrap true", 2, "invalid dependency"),
    ("-p nowhere --wrap true", 4, "nowhere"),
    ("-w n77 --wrap true", 4, "n77"),
    ("-C fastest --wrap true", 4, "fastest"),
    ("--gres tpu:1 --wrap true", 4, "tpu"),
    ("-n 1000 --wrap true", 4, "could ever run"),
    ("-N 4 --wrap true", 4, "could ever run"),
    ("missing.sh", 2, "there is no script"),
    ("nobang.sh", 2, "does not name an interpreter"),
    ("binary.sh", 2, "binary"),
    ("rubbish.sh", 2, "rubbish.sh"),
    ("large.sh", 2, "larger than"),
    ("directive.sh", 2, "directive.sh:2"),
    ("-o no/such/dir/out --wrap true", 6, "does not exist"),
    ("-D no-such-dir --wrap true", 6, "does not exist"),
    ("-a 0-99999999 --wrap true", 4, "tasks"),
    ("--deadline now+1 -b now+1hour --wrap true", 2, "deadline"),
]

OTHERS = [
    ("ccancel 424242", 4, "424242"),
    ("ccontrol show job 424242", 4, "424242"),
    ("ccontrol hold 424242", 4, "424242"),
    ("ccontrol update JobId=424242 Comment=x", 4, "424242"),
    ("ccontrol update NodeName=n77 State=resume", 4, "n77"),
    ("ccontrol update NodeName=n1 State=drain", 2, "reason"),
    ("ccontrol show node n77", 4, "n77"),
    ("ccontrol show partition nowhere", 4, "nowhere"),
    ("cwait 424242", 4, "424242"),
    ("cwhy 424242", 4, "424242"),
    ("cqueue -o %!", 5, "column"),
    ("cqueue -u nobody-of-this-name", 4, "no user"),
]


@pytest.fixture
def place(cluster):
    """Scripts of every bad kind."""
    files = {
        "nobang.sh": b"true\n",
        "binary.sh": b"#!\x7fELF\0\0\1",
        "rubbish.sh": os.urandom(4096),
        "large.sh": b"#!/bin/sh\n" + b"#" * (4 << 20),
        "directive.sh": b"#!/bin/sh\n#SBATCH --tiem=5\ntrue\n",
    }
    for name, content in files.items():
        with open(cluster.file(name), "wb") as file:
            file.write(content)
    return cluster


def check(done, name, status, words):
    assert (done.returncode, done.stdout) == (status, ""), done
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"{name}: error: "), done
    assert words in done.stderr
    assert len(lines) <= 2
    assert "Traceback" not in done.stderr


def test_what_is_wrong_with_a_submission_is_said_and_nothing_is_submitted(place):
    before = place.client.status().seq
    for line, status, words in SUBMISSIONS:
        check(place.run(f"csub {line}"), "csub", status, words)
    assert place.client.status().seq == before


def test_what_does_not_exist_is_said_and_nothing_is_changed(place):
    before = place.client.status().seq
    for line, status, words in OTHERS:
        check(place.run(line), line.split()[0], status, words)
    assert place.client.status().seq == before


def test_what_cannot_be_done_to_a_job_in_its_state_is_said(cluster):
    done = cluster.finish("true").job_id
    running = cluster.submit("sleep 900")
    cluster.becomes(running, "RUNNING")
    for line in (
        f"ccontrol hold {done}",
        f"ccontrol release {running}",
        f"ccontrol update JobId={done} TimeLimit=5",
        f"ccontrol update JobId={running} Partition=short",
        f"ccontrol hold {done}_5",
    ):
        answer = cluster.run(line)
        assert (answer.returncode, answer.stdout) == (4, ""), (line, answer)
        assert str(done) in answer.stderr or str(running) in answer.stderr
    assert [cluster.state(job) for job in (done, running)] == ["COMPLETED", "RUNNING"]


def test_a_controller_that_is_not_there_is_said_with_what_was_tried(cluster):
    for line in ("csub --wrap true", "cqueue", "cinfo", "ccancel 1", "cacct", "cwait 1", "cwhy 1"):
        done = cluster.run(line, CRANE_SOCKET="/tmp/crane-nobody.sock")
        assert (done.returncode, done.stdout) == (3, ""), done
        assert "/tmp/crane-nobody.sock" in done.stderr
        assert "crane up" in done.stderr


def test_rubbish_on_the_doors_harms_nobody(cluster):
    import socket

    for size in (1, 5, 70_000):
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(cluster.path("ctl.sock"))
            door.sendall(os.urandom(size))
            door.shutdown(socket.SHUT_WR)
        for address in (("127.0.0.1", cluster.port),):
            with socket.create_connection(address) as port:
                port.sendall(os.urandom(size))
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(cluster.path("n1.sock"))
            door.sendall(os.urandom(size))
            door.shutdown(socket.SHUT_WR)
    assert cluster.finish("true").state.name == "COMPLETED"
