"""Where compiled kernels live. Imported before numba; imports only the standard library.

numba stamps a cached kernel with the time and size of its own source file, and so does not notice
an edit of a kernel it calls in another file. Here the kernels of a module live in a directory named
by a hash of that module and of every module of this package that it imports, directly or not: an
edit makes anew exactly the kernels it can change, and checkouts with the same sources share them.
These directories lie in one named by whatever else machine code depends on (versions, processor).
A marker says that all kernels of a group have been compiled.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

VARIABLE = "CRANE_NUMBA_CACHE"
"""Environment variable naming the directory under which caches are kept."""
PACKAGE = "sched_core"
_MARKER = "complete"
_LOCK = "lock"
_SOURCES = Path(__file__).resolve().parent
_IMPORT = re.compile(
    rf"^\s*(?:from {PACKAGE}\.(\w+) import|import {PACKAGE}\.(\w+)"
    rf"|from {PACKAGE} import (\([^)]*\)|[^\n]*))",
    re.MULTILINE,
)
_in_force: list[Path] = []
_frozen: list[Path] = []


def imports_of(source: str) -> set[str]:
    """Modules of this package that a source text imports, at its head or inside a function."""
    found: set[str] = set()
    for member, module, members in _IMPORT.findall(source):
        found.update(filter(None, (member, module)), re.findall(r"\w+", members))
    return found


def closure(module: str, sources: Path = _SOURCES) -> list[str]:
    """The module and all of this package that it imports, directly or not, by name, sorted."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        name = ahead.pop()
        if name not in found and (text := _read(sources, name)) is not None:
            found.add(name)
            ahead.extend(imports_of(text))
    return sorted(found)


def digest(modules: Iterable[str], sources: Path = _SOURCES) -> str:
    """Hash (16 hex digits) of the sources that kernels of these modules are made of."""
    names = {name for module in modules for name in closure(module, sources)}
    sha = hashlib.sha256()
    for name in sorted(names):
        text = _read(sources, name) or ""
        sha.update(f"{name}\0{len(text)}\0{text}".encode())
    return sha.hexdigest()[:16]


@cache
def _read(sources: Path, module: str) -> str | None:
    """A module's text as it was first seen: what this process has loaded; None if there is none."""
    try:
        return (sources / f"{module}.py").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


@cache
def place(module: str) -> str:
    """Name of a module's directory within the one in force: its last name and its digest."""
    return f"{module}-{digest([module])}"


@cache
def key() -> str:
    """Name (32 hex digits) of the cache of these versions and this processor."""
    parts = [sys.version, platform.machine(), _processor()]
    parts += [version(name) for name in ("numba", "llvmlite", "numpy")]
    parts += [f"{name}={value}" for name, value in sorted(os.environ.items())
              if name.startswith("NUMBA_") and name not in _HARMLESS]  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


_HARMLESS = {"NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "NUMBA_NUM_THREADS", "NUMBA_DEBUG_CACHE"}
"""Settings of numba that change no machine code; with any other (bounds checks ...) it differs."""


def default_root() -> Path:
    """Directory under which caches are kept: the environment's, the user's, or a temporary one."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for candidate in (home, home.parent):
        if candidate.is_dir():
            if os.access(candidate, os.W_OK | os.X_OK):
                return home / "crane" / "numba"
            break
    return Path(tempfile.gettempdir()) / f"crane-numba-{os.getuid()}"


def use(root: str | os.PathLike[str] | None = None) -> Path:
    """Keep the kernels under `root` (default: `default_root()`); gives the directory.

    A process that has loaded kernels keeps the directory they came with: that one is given. Raises
    OSError if the directory can neither be made nor read.
    """
    if _frozen:
        return _frozen[0]
    directory = _directory(root)
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    _check_owner(directory)
    _in_force[:] = [directory]
    return directory


def freeze() -> Path:
    """Kernels are about to be loaded: settle on the directory in force, or on the default one."""
    if not _frozen:
        _frozen.append(_in_force[0] if _in_force else use())
    return _frozen[0]


def _directory(root: str | os.PathLike[str] | None) -> Path:
    return Path(root if root is not None else default_root()).absolute() / key()


def _check_owner(directory: Path) -> None:
    """Kernels are machine code: refuse (PermissionError) a cache that anybody could have written.

    A group may write (umask 002, where each user has a group of his own).
    """
    for place in (directory, directory.parent):
        status = place.stat()
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o002:
            raise PermissionError(f"{place} belongs to another user or can be written by others")


@contextmanager
def alone(directory: Path, module: str) -> Iterator[None]:
    """One process at a time compiles a module's kernels: others wait, then find what it has made.

    Several may so share the work on different modules. Without effect where nothing can be written:
    nothing is kept there either.
    """
    if not os.access(directory, os.W_OK):
        yield
        return
    with (directory / f"{place(module)}.{_LOCK}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mark_complete(directory: Path, modules: Iterable[str]) -> None:
    """Record that all kernels of these modules, and of those they import, are in `directory`.

    Atomic; may be repeated.
    """
    fd, name = tempfile.mkstemp(dir=directory)
    os.close(fd)
    os.replace(name, directory / f"{_MARKER}-{digest(modules)}")


def is_complete(root: str | os.PathLike[str] | None, modules: Iterable[str]) -> bool:
    """Whether the cache under `root` holds the kernels of exactly these modules' sources."""
    return (_directory(root) / f"{_MARKER}-{digest(modules)}").exists()


def _processor() -> str:
    """What of the processor matters to generated code: its model and instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in text.split("\n\n")[0].splitlines() if line.startswith(wanted))
