"""The kernel cache: complete exactly for these sources, and no compiling during a pass."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sched_core
from sched_core import cachedir
from sched_core.warmup import cache_is_warm, main

SOURCES = Path(sched_core.__file__).parent
JIT = "NUMBA_DISABLE_JIT" not in os.environ


def test_an_empty_directory_is_cold_and_the_shared_one_warm(tmp_path: Path) -> None:
    assert not cache_is_warm(tmp_path)
    if JIT:
        assert cache_is_warm()


def test_the_key_changes_with_an_edit_of_any_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fit.py", "plan.py"):
        (tmp_path / name).write_bytes((SOURCES / name).read_bytes())
    monkeypatch.setattr(cachedir, "_SOURCES", tmp_path)
    before = cachedir.key()
    assert cachedir.key() == before
    with (tmp_path / "fit.py").open("a") as file:
        file.write("# edited\n")
    assert cachedir.key() != before


def test_the_marker_is_found_only_under_the_key_of_these_sources(tmp_path: Path) -> None:
    directory = tmp_path / cachedir.key()
    directory.mkdir()
    cachedir.mark_complete(directory)
    assert cache_is_warm(tmp_path)
    directory.rename(tmp_path / "another key")
    assert not cache_is_warm(tmp_path)


def test_without_a_writable_home_the_default_is_a_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cachedir.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none" / "such"))
    assert "crane-numba" in cachedir.default_root().name
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cachedir.default_root() == tmp_path / "crane" / "numba"
    monkeypatch.setenv(cachedir.VARIABLE, "/some/where")
    assert cachedir.default_root() == Path("/some/where")


def test_a_directory_that_cannot_be_made_is_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sched_core.warmup", "--cache-dir", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot use the kernel cache" in done.stderr
    with pytest.raises(SystemExit):
        main(["--unknown"])
    assert "unknown" in capsys.readouterr().err


@pytest.mark.skipif(not JIT, reason="compiling is switched off in this run")
def test_every_kernel_has_one_signature_and_accepts_no_other() -> None:
    from sched_core import jit

    jit.compile_kernels()
    kernels = {kernel.py_func.__name__: kernel for kernel, _ in jit._KERNELS}
    assert {"hosts", "choose", "earliest", "promise", "refresh", "run_pass"} <= kernels.keys()
    for name, kernel in kernels.items():
        assert len(kernel.signatures) == 1, name
        assert kernel._can_compile is False, name
        assert kernel.targetoptions["nogil"] is True, name


def test_readers_of_codes_and_tables_load_no_numba() -> None:
    """The controller's core names verdicts and keeps tables without paying for a compiler."""
    code = (
        "import sys, sched_core.codes, sched_core.cachedir, sched_core.warmup, sched_core.tables;"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_the_oracle_imports_neither_kernels_nor_tables() -> None:
    tree = ast.parse((SOURCES / "oracle.py").read_text())
    ours = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sched_core")
    }
    assert ours == {
        "sched_core.codes",
        "sched_core.names",
        "sched_core.oracle_limits",
        "sched_core.request",
    }


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    code = f"from sched_core import cachedir; cachedir.use({str(shared)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "can be written by others" in done.stderr
