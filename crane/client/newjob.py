"""A job to be submitted, described in Python: the same options as `csub` has, as keywords."""

from __future__ import annotations

import os
import time

from crane import environment, request, script
from crane.errors import CraneError, ErrorCode, did_you_mean
from crane.options import CSUB, TABLE, Parsed
from crane.record import dataclass

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crane.jobspec import ArraySpec, Dependency, JobSpec
    from crane.request import Request


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job as it is sent: what it shares with others (`spec`), and its own."""

    spec: JobSpec
    script: bytes
    environment: bytes = b""
    """NUL-separated `NAME=value`."""
    name: str = ""
    args: tuple[str, ...] = ()
    array: ArraySpec | None = None
    dependency: Dependency | None = None
    command: str = ""
    """Shown as the job's command: the script's path, `(wrap)`, `(stdin)`."""


def describe(
    script_path: str = "",
    *,
    content: bytes | None = None,
    command: Sequence[str] | str | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    now_ns: int | None = None,
    **options: object,
) -> NewJob:
    """A job from exactly one of a script's path, its content, or a command to run.

    `command` is a list of words, or one text for the shell. `options` are csub's, with underscores
    and typed as Python has them: `time=10`, `mem="4G"`, `array="0-9%2"`, `hold=True`. `#CRANE` and
    `#SBATCH` lines of the script count below them. `env` replaces this process's environment.
    Raises CraneError like csub.
    """
    if sum((bool(script_path), content is not None, command is not None)) != 1:
        raise CraneError(ErrorCode.USAGE, "give one of: the script's path, `content`, or `command`")
    environ = os.environ if env is None else env
    given = parsed(options, tuple(args))
    directives, name = Parsed(), "sbatch"
    if command is not None:
        content, label, name = script.wrap(_line(command)), "(wrap)", "wrap"
    else:
        label = script_path or "(content)"
        content = script.read_file(script_path) if content is None else content
        directives = script.options_of(script.parse(content, label), label)
        name = os.path.basename(script_path) or name
    made = request.build(
        Parsed(given.options, given.places, ("", *args)),
        {},
        directives,
        work_dir=os.getcwd(),
        now_ns=time.time_ns() if now_ns is None else now_ns,
        submit_host=os.uname().nodename,
        umask=own_umask(),
        script_name=name,
    )
    return from_request(made, content, environ, label)


def from_request(made: Request, content: bytes, environ: Mapping[str, str], command: str) -> NewJob:
    """The job a checked request stands for."""
    return NewJob(
        spec=made.spec,
        script=content,
        environment=pack_environment(environment.exported(made.spec.export, environ)),
        name=made.name,
        args=made.args,
        array=made.array,
        dependency=made.dependency,
        command=command,
    )


def own_umask() -> int:
    """The mask of this process, without changing it for a moment under its other threads."""
    status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = os.read(status, 512)
    finally:
        os.close(status)
    return int(told.partition(b"\nUmask:")[2].split(None, 1)[0], 8)


def pack_environment(variables: Mapping[str, str]) -> bytes:
    """NUL-separated `NAME=value` (environ(7)); bytes that are no text travel as they are."""
    pairs = (f"{name}={value}" for name, value in variables.items())
    return "\0".join(pairs).encode("utf-8", "surrogateescape")


def parsed(options: Mapping[str, object], positionals: tuple[str, ...] = ()) -> Parsed:
    """Options given as keywords, by their long name or by the key of their value."""
    known = {option.long.replace("-", "_"): option for option in TABLE if CSUB in option.tools}
    by_key = {option.key: option for option in known.values()}
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    for name, value in options.items():
        option = known.get(name) or by_key.get(name)
        if option is None:
            raise CraneError(
                ErrorCode.UNKNOWN_OPTION,
                f"unknown option {name!r}",
                did_you_mean(name, known) or "options are csub's, with underscores",
            )
        if value is None or value is False:
            continue
        if option.parse is None:
            values[option.key] = option.const
        elif value is True and option.optional:
            values[option.key] = option.parse("")
        else:
            try:
                values[option.key] = option.parse(_text(value))
            except CraneError as error:
                raise error.at(name) from None
        places[option.key] = name
    return Parsed(values, places, positionals)


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def _line(command: Sequence[str] | str) -> str:
    if isinstance(command, str):
        return command
    import shlex  # noqa: PLC0415 - `re` and more, for a list only

    return shlex.join(command)
