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


def test_a_digest_covers_what_a_module_imports_directly_or_not(tmp_path: Path) -> None:
    # given one that imports another inside a function, and that one two more in brackets
    sources = {
        "a": "def late():\n    from sched_core.b import f\n",
        "b": "from sched_core import (\n    c,\n    d,\n)\n",
        "c": "import numpy\n",
        "d": "import sched_core.c\n",
        "e": "from sched_core.d import g\n",
    }

    def digests(edited: str = "") -> dict[str, str]:
        directory = tmp_path / f"edited {edited}"
        directory.mkdir()
        for name, text in sources.items():
            more = "# edited\n" if name == edited else ""
            (directory / f"{name}.py").write_text(text + more)
        return {name: cachedir.digest([name], directory) for name in sources}

    before = digests()
    for edited, changed in {"a": "a", "b": "ab", "c": "abcde", "d": "abde", "e": "e"}.items():
        after = digests(edited)
        assert "".join(name for name in sources if after[name] != before[name]) == changed


def test_every_import_of_the_core_is_found() -> None:
    """What the digest reads from the text is what Python's own parser finds."""
    for path in SOURCES.glob("*.py"):
        text = path.read_text()
        found: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "sched_core":
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sched_core."):
                found.add(str(node.module).removeprefix("sched_core."))
            elif isinstance(node, ast.Import):
                names = (alias.name for alias in node.names)
                found.update(n.split(".")[1] for n in names if n.startswith("sched_core."))
        assert found <= cachedir.imports_of(text), path.name


@pytest.mark.skipif(not JIT, reason="compiling is switched off in this run")
def test_an_edited_callee_in_another_file_is_compiled_into_its_caller_again(
    tmp_path: Path,
) -> None:
    package = tmp_path / "sched_core"
    package.mkdir()
    for name in ("__init__", "jit", "cachedir", "columns"):
        (package / f"{name}.py").write_bytes((SOURCES / f"{name}.py").read_bytes())
    head = "from __future__ import annotations\nfrom sched_core.jit import entry, kernel\n"
    callee = package / "callee.py"
    (package / "caller.py").write_text(
        f"{head}from sched_core.callee import step\n@entry\ndef twice(x: int) -> int:\n    return step(step(x))\n"
    )
    command = "from sched_core import caller, jit; jit.compile_kernels(); print(caller.twice(5))"
    environ = dict(os.environ, PYTHONPATH=str(tmp_path), CRANE_NUMBA_CACHE=str(tmp_path / "cache"))
    environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Python trusts time and size

    def run(constant: int) -> str:
        callee.write_text(f"{head}@kernel\ndef step(x: int) -> int:\n    return x + {constant}\n")
        os.utime(callee, (1, 1))  # neither its time nor its size tells
        done = subprocess.run(
            [sys.executable, "-c", command],
            env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout

    assert [run(3), run(4), run(3)] == ["11\n", "13\n", "11\n"]
    kept = [path for path in (tmp_path / "cache").glob("*/*-*") if path.is_dir()]
    places = [path.name.split("-")[0] for path in kept]
    assert sorted(places) == ["callee", "callee", "caller", "caller"]


def test_the_marker_is_of_these_sources_only(tmp_path: Path) -> None:
    assert not cachedir.is_complete(tmp_path, ["plan"])
    directory = tmp_path / cachedir.key()
    directory.mkdir()
    cachedir.mark_complete(directory, ["plan"])
    assert cachedir.is_complete(tmp_path, ["plan"])
    assert not cachedir.is_complete(tmp_path, ["plan", "priority"])
    directory.rename(tmp_path / "another key")
    assert not cachedir.is_complete(tmp_path, ["plan"])


def test_without_a_writable_home_the_default_is_a_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cachedir.VARIABLE, raising=False)
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
    assert {"hosts", "choose", "search", "install", "recount", "run_pass"} <= kernels.keys()
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


def test_oracles_import_neither_kernels_nor_tables() -> None:
    """Only other oracles, and the values that both sides speak of."""
    values = {"codes", "names", "request", "layouts"}
    oracles = {path.stem for path in SOURCES.glob("oracle*.py")}
    assert len(oracles) > 10
    for module in oracles:
        assert set(cachedir.closure(module)) <= oracles | values, module


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    code = f"from sched_core import cachedir; cachedir.use({str(shared)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "can be written by others" in done.stderr
