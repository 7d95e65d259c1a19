"""What a person sees: a line of explanation, the command as it would be typed, its real output."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

COMMAND_SECONDS = 120.0
"""A command that takes longer hangs."""
_BOLD, _DIM, _GREEN, _RED, _OFF = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"
_OURS = ("CRANE_", "SLURM_", "CSUB_", "SBATCH_", "CRUN_", "SRUN_", "CQUEUE_", "SQUEUE_", "CINFO_",
         "SINFO_", "CACCT_", "SACCT_")  # fmt: skip


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did."""

    status: int
    out: str
    """Standard output and standard error, as they would be seen on a terminal."""


@dataclass(slots=True)
class Checks:
    """What was looked at, and what differed from what it should have been."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, what: str, difference: str) -> None:
        """Count one check; `difference` is empty when all is well."""
        if difference:
            self.failed.append(f"{what}: {difference}")
        else:
            self.passed += 1


def environment(
    base: Mapping[str, str], home: str, temporary: str, commands: str
) -> dict[str, str]:
    """Environment of a person whose cluster is in `home`: no settings left from elsewhere."""
    unwanted = {"PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
    kept = {
        name: value
        for name, value in base.items()
        if name not in unwanted and (not name.startswith(_OURS) or name == "CRANE_NUMBA_CACHE")
    }
    path = os.pathsep.join(filter(None, (commands, base.get("PATH", os.defpath))))
    return kept | {"CRANE_HOME": home, "TMPDIR": temporary, "PATH": path}


class Stage:
    """Runs commands in a directory and shows them; colours on a terminal only."""

    def __init__(self, directory: str, environ: Mapping[str, str], out: TextIO) -> None:
        self.checks = Checks()
        self._directory = directory
        self._environ = dict(environ)
        self._out = out
        self._colours = out.isatty() and not os.environ.get("NO_COLOR")

    def title(self, text: str) -> None:
        """Begin a scene."""
        self._write("\n" + self._paint(_BOLD, f"== {text}"))

    def say(self, text: str) -> None:
        """Explain what comes next."""
        width = min(100, shutil.get_terminal_size((100, 24)).columns)
        for line in textwrap.wrap(text, width - 2):
            self._write(self._paint(_DIM, f"# {line}"))

    def run(self, command: str, *, statuses: Iterable[int] = (0,)) -> Done:
        """Show a command, run it, show its output; an unexpected exit status fails a check."""
        self._write(self._paint(_BOLD, f"$ {command}"))
        done = self.quiet(command)
        self._emit(done.out)
        if done.status not in statuses:
            self.expect(f"exit status of `{command}`", done.status, *statuses)
        return done

    def quiet(self, command: str) -> Done:
        """Run a command without showing it. Raises DemoError if it hangs or is not there."""
        try:
            done = subprocess.run(
                shlex.split(command),
                cwd=self._directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoError(f"`{command}` did not end in {COMMAND_SECONDS:g} s") from None
        except OSError as error:
            raise DemoError(f"`{command}` cannot be run: {error}; is `make setup` done?") from None
        return Done(done.returncode, done.stdout.decode(errors="replace"))

    def expect(self, what: str, found: object, *allowed: object) -> None:
        """Check that a value is one of those allowed."""
        wanted = " or ".join(map(repr, allowed))
        self._verdict(what, "" if found in allowed else f"found {found!r}, expected {wanted}")

    def require(self, what: str, holds: bool, otherwise: str) -> None:
        """Check that something holds; `otherwise` tells what was found instead."""
        self._verdict(what, "" if holds else otherwise)

    def summary(self, seconds: float) -> int:
        """Tell how it went; the exit status."""
        checks = self.checks
        if not checks.failed:
            line = f"All {checks.passed} checks passed; {seconds:.1f} s with the cluster up."
            self._write("\n" + self._paint(_GREEN, line))
            return 0
        self._write("\n" + self._paint(_RED, f"Not as it should be ({len(checks.failed)}):"))
        for line in checks.failed:
            self._write(f"  - {line}")
        return 1

    def _verdict(self, what: str, difference: str) -> None:
        self.checks.note(what, difference)
        if difference:
            self._write(self._paint(_RED, f"[DIFFERS] {what}: {difference}"))
        else:
            self._write(self._paint(_GREEN, f"[ok] {what}"))

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colours else text

    def _write(self, text: str) -> None:
        self._emit(text + "\n")

    def _emit(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            # The rest goes nowhere, so that cleaning up is not stopped by its own messages.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)
            raise DemoError("nobody reads the output any more") from None


def commands_directory() -> str:
    """Where the installed commands are: beside the running interpreter."""
    return os.path.dirname(sys.executable)
