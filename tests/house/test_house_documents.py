"""What documents and units refer to exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "Makefile",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "bench" / "README.md",
]
UNITS = sorted((ROOT / "docs" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_document_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"\]\(([^)#:\s]+)\)", text)
    missing = [name for name in named if not (path.parent / name).exists()]
    named = re.findall(r"(?<![\w/.-])((?:docs|bench|tests|crane[dtl]*)/[\w/.-]+\.(?:md|py))", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def settings(unit: Path) -> dict[str, str]:
    lines = unit.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_a_restart_of_the_agents_unit_ends_no_job() -> None:
    unit = settings(ROOT / "docs/systemd/craned.service")
    assert unit["KillMode"] == "process"
    assert (unit["Delegate"], unit["Restart"], unit["OOMPolicy"]) == ("yes", "always", "continue")
    assert "User" not in unit, "it runs jobs as their owners"


def test_the_controllers_unit_has_no_more_rights_than_it_needs() -> None:
    unit = settings(ROOT / "docs/systemd/cranectld.service")
    assert (unit["User"], unit["CapabilityBoundingSet"]) == ("crane", "")
    assert unit["ProtectSystem"] == "strict"
    # kernels are compiled at run time; uids of the door's peers must be the host's
    assert "MemoryDenyWriteExecute" not in unit
    assert "PrivateUsers" not in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not checked.stderr
    assert checked.returncode == 0
