"""Logs written by every version so far are read and folded to the same result."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from cranectld.core import events as ev
from cranectld.store.codec import FORMAT

HERE = Path(__file__).parent
GOLDEN = sorted((HERE / "golden").glob("*.crlog"))


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_log_folds_to_what_it_did_when_it_was_made(path: Path) -> None:
    make = maker()
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(make.outcome(make.unpack(path.read_bytes())))) == expected


def newest() -> Path:
    """The last addition to the present format: v1, then v1-2, v1-3, ..."""
    mine = [path for path in GOLDEN if path.stem.partition("-")[0] == f"v{FORMAT}"]
    assert mine, "the present format has a golden log"
    return max(mine, key=lambda path: int(path.stem.partition("-")[2] or 1))


def test_a_golden_log_is_never_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["make_golden.py", newest().stem])
    before = newest().read_bytes()
    with pytest.raises(FileExistsError):
        maker().main()
    assert newest().read_bytes() == before


def test_a_golden_log_has_every_kind_of_event() -> None:
    kinds = {type(logged.event) for batch in maker().history() for logged in batch}
    assert kinds == set(get_args(ev.Event)), "add the new event to tests/store/make_golden.py"


def test_the_newest_golden_log_reads_as_the_history_it_was_made_from() -> None:
    make = maker()
    assert make.unpack(newest().read_bytes()) == make.history()
