"""The house's own rules: small files, short functions, every package shipped, seams in step."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("crane", "sched_core", "cranectld", "craned", "cli")
GENERATED = {ROOT / "crane/v1", ROOT / "crane/log/v1"}


def product_files() -> list[Path]:
    return [
        path
        for top in (*PRODUCT, "bench")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.parent not in GENERATED
    ]


@pytest.mark.parametrize("path", product_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500, "house limit: 500 lines a file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno
            assert length <= 70, f"{node.name} has {length} lines; the house limit is 70"


def test_every_package_is_shipped() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for top in PRODUCT
        for init in (ROOT / top).rglob("__init__.py")
    }
    assert found == set(listed)


@pytest.mark.parametrize(
    ("python_enum", "wire_enum", "prefix"),
    [
        ("JobState", "JobState", "JOB_STATE_"),
        ("Reason", "Reason", "REASON_"),
        ("NodeState", "NodeState", "NODE_STATE_"),
        ("StepState", "StepState", "STEP_STATE_"),
    ],
)
def test_enums_agree_with_the_wire(python_enum: str, wire_enum: str, prefix: str) -> None:
    from crane import states
    from crane.v1 import types_pb2

    ours = {member.name: int(member) for member in getattr(states, python_enum)}
    wire = {
        name.removeprefix(prefix): number
        for name, number in getattr(types_pb2, wire_enum).items()
        if not name.endswith("_UNSPECIFIED")
    }
    assert ours == wire


def test_error_codes_of_the_wire_are_known() -> None:
    from crane.errors import ErrorCode
    from crane.v1 import types_pb2

    words = {
        name.removeprefix("ERROR_CODE_") for name in types_pb2.ErrorCode.DESCRIPTOR.values_by_name
    } - {"OK"}
    assert words <= set(ErrorCode.__members__)
