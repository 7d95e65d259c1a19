"""On a terminal: colours, and columns as wide as there is room. In a pipe: neither."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios

import pytest


def on_terminal(columns: int, *arguments: str, **environ: str) -> list[str]:
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    program = "from cli.cqueue import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL, stdout=follower, env=os.environ | {"TERM": "xterm"} | environ,
    )  # fmt: skip
    os.close(follower)
    data = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break  # the last writer has closed it
        if not chunk:
            break
        data += chunk
    os.close(leader)
    assert process.wait(30) == 0
    return data.decode().splitlines()


def test_rows_have_the_colour_of_their_state(cluster):
    heading, running, waiting, *_ = on_terminal(80)

    assert heading.strip().startswith("JOBID")
    assert running.startswith("\x1b[32m")
    assert running.endswith("\x1b[0m")
    assert waiting.startswith("\x1b[33m")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(cluster, environ):
    assert not any("\x1b" in line for line in on_terminal(80, **environ))


def test_names_use_the_width_there_is(cluster):
    assert "train-a-large-model" in on_terminal(120, NO_COLOR="1")[1]
    assert "train-a-large-model" not in on_terminal(80, NO_COLOR="1")[1]
    assert on_terminal(120, "-o", "%.8j %u", NO_COLOR="1")[1] == "train-a- ada"
