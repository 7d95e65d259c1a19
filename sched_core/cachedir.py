"""Where compiled kernels live. Imported before numba; imports only the standard library.

numba stamps a cached kernel with the time and size of its own source file, and so does not notice
an edit of a kernel it calls in another file. Each state of the sources therefore has a directory
of its own, named by a hash of all sources of this package and of whatever else the machine code
depends on. A marker in it says that every kernel has been compiled there.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

VARIABLE = "CRANE_NUMBA_CACHE"
"""Environment variable naming the directory under which caches are kept."""
_MARKER = "complete"
EVERYTHING = "all"
"""The group of all kernels there are (sched_core.warmup.GROUPS)."""
_SOURCES = Path(__file__).resolve().parent
_frozen: list[Path] = []


def key() -> str:
    """Name of the cache for these sources, versions and processor (32 hex digits)."""
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.glob("*.py")):
        stamp = source.stat()
        digest.update(f"{source}\0{stamp.st_mtime_ns}\0{stamp.st_size}\0".encode())
        digest.update(source.read_bytes())
    versions = [sys.version, platform.machine(), _processor()]
    versions += [version(name) for name in ("numba", "llvmlite", "numpy")]
    digest.update("\0".join(versions).encode())
    return digest.hexdigest()[:32]


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
    """Tell numba to keep the kernels under `root` (default: `default_root()`); gives the directory.

    A process that has loaded kernels keeps the directory they came with: that one is given. Raises
    OSError if the directory can neither be made nor read.
    """
    directory = Path(root if root is not None else default_root()).absolute() / key()
    if _frozen:
        return _frozen[0]
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    _check_owner(directory)
    os.environ["NUMBA_CACHE_DIR"] = str(directory)
    if "numba" in sys.modules:  # it reads its environment once, when imported
        sys.modules["numba"].config.reload_config()
    return directory


def freeze() -> None:
    """Kernels are about to be loaded: settle on the directory in force, or on the default one."""
    if not os.environ.get("NUMBA_CACHE_DIR", "").endswith(key()):
        use()
    _frozen.append(Path(os.environ["NUMBA_CACHE_DIR"]))


def _check_owner(directory: Path) -> None:
    """Kernels are machine code: refuse (PermissionError) a cache that anybody could have written.

    A group may write (umask 002, where each user has a group of his own).
    """
    for place in (directory, directory.parent):
        status = place.stat()
        if status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o002:
            raise PermissionError(f"{place} belongs to another user or can be written by others")


def mark_complete(directory: Path, group: str = EVERYTHING) -> None:
    """Record that a group's kernels have been compiled into `directory`. Atomic; may be repeated."""
    fd, name = tempfile.mkstemp(dir=directory)
    os.close(fd)
    os.replace(name, directory / f"{_MARKER}.{group}")


def is_complete(root: str | os.PathLike[str] | None = None, group: str = EVERYTHING) -> bool:
    """Whether the cache under `root` holds a group's kernels of exactly these sources."""
    directory = Path(root if root is not None else default_root()) / key()
    return any((directory / f"{_MARKER}.{of}").exists() for of in (EVERYTHING, group))


def _processor() -> str:
    """What of the processor matters to generated code: its model and instruction sets."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in text.split("\n\n")[0].splitlines() if line.startswith(wanted))
