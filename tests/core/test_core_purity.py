"""The cores are pure: no clock, randomness, I/O, threads or set order (ARCHITECTURE.md, principles)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORES = ("cranectld/core", "craned/core", "sched_core")
BANNED_MODULES = [
    "asyncio",
    "datetime",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
]
BANNED_CALLS = ("print", "open", "input", "exec", "eval", "id_generator")
# What keeps compiled kernels on disk is no part of what the core computes.
EXEMPT = {"sched_core/cachedir.py", "sched_core/warmup.py", "sched_core/jit.py"}

FILES = [
    path
    for core in CORES
    for path in sorted((ROOT / core).rglob("*.py"))
    if path.relative_to(ROOT).as_posix() not in EXEMPT
]


def impurities(tree: ast.AST) -> list[tuple[int, str]]:
    """Lines and what is wrong with them."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        found += [
            (node.lineno, f"imports {name}")
            for name in names
            if name.split(".")[0] in BANNED_MODULES
        ]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in BANNED_CALLS:
                found.append((node.lineno, f"calls {node.func.id}"))
            if node.func.id in ORDERED_BY_ITERATION and node.args and is_set(node.args[0]):
                found.append((node.lineno, "makes a sequence of a set"))
        loops = [node] if isinstance(node, ast.For | ast.comprehension) else []
        found += [(loop.iter.lineno, "iterates over a set") for loop in loops if is_set(loop.iter)]
        if isinstance(node, ast.Starred) and is_set(node.value):
            found.append((node.lineno, "unpacks a set"))
    return found


ORDERED_BY_ITERATION = ("list", "tuple", "iter", "enumerate", "next", "zip", "map", "dict")


def is_set(node: ast.AST) -> bool:
    """Whether an expression is a set by its form."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub):
        return is_set(node.left) or is_set(node.right)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_cores_are_pure(path):
    assert impurities(ast.parse(path.read_text())) == []


IMPURE = [
    "import time",
    "from datetime import datetime",
    "from os import path",
    "open('x')",
    "print(1)",
    "for x in {1, 2}: pass",
    "[x for x in set(y)]",
    "list(frozenset(y))",
    "[*{1, 2}]",
    "for x in set(a) - b: pass",
]


@pytest.mark.parametrize("source", IMPURE)
def test_the_ban_notices(source):
    assert impurities(ast.parse(source))


def test_the_core_imports_nothing_heavy():
    """The controller answers before numpy and numba are loaded."""
    import subprocess
    import sys

    code = (
        "import cranectld.core.apply, cranectld.core.decide, cranectld.core.react, "
        "cranectld.core.explain, sys; "
        "print([m for m in ('numpy', 'numba', 'google.protobuf', 'grpc', 'asyncio') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"
