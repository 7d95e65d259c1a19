"""A real log: not one of 28,481 jobs starts at another instant than independent programs say."""

from __future__ import annotations

import csv
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from cranectld.sim.csim.trace import read_swf
from cranectld.sim.csim.workload import Workload, workload
from sched_core.columns import Ints
from sched_core.pool import PoolPolicy, replay

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "fcfs": (PoolPolicy.FCFS, False),
    "easy": (PoolPolicy.EASY, False),
    "easy_sjbf": (PoolPolicy.EASY_SJBF, False),
    "easy_clairvoyant": (PoolPolicy.EASY, True),
    "easy_sjbf_clairvoyant": (PoolPolicy.EASY_SJBF, True),
    "cons_compress": (PoolPolicy.CONSERVATIVE, False),
    "cons_replan": (PoolPolicy.CONSERVATIVE_REPLAN, False),
    "published_easy_clairvoyant": (PoolPolicy.EASY, True),
}
PROCESSORS = 100
# Interpreted, a whole replay takes minutes: its beginning must do.
WHOLE = "NUMBA_DISABLE_JIT" not in os.environ
BEGINNING = slice(None if WHOLE else 600)


@pytest.fixture(scope="module")
def job_set() -> Workload:
    log = read_swf(str(ROOT / "bench/data/KTH-SP2-1996-2.swf.gz"))
    return workload(log, PROCESSORS, "strong")


@pytest.fixture(scope="module")
def reference() -> dict[str, Ints]:
    with lzma.open(ROOT / "tests/data/kth/waits.csv.xz", "rt") as file:
        names, *rows = csv.reader(file)
    return dict(zip(names, np.array(rows, np.int64).T, strict=True))


def test_the_job_set_is_the_reference_s(job_set: Workload, reference: dict[str, Ints]) -> None:
    assert np.array_equal(job_set.job_id, reference["job_id"])


@pytest.mark.parametrize("column", COLUMNS)
def test_no_job_differs(column: str, job_set: Workload, reference: dict[str, Ints]) -> None:
    policy, clairvoyant = COLUMNS[column]
    submit, procs, run = job_set.submit, job_set.procs, job_set.run
    estimate = run if clairvoyant else job_set.estimate
    chosen = (column_[BEGINNING] for column_ in (submit, procs, estimate, run))
    found = replay(*chosen, processors=PROCESSORS, policy=policy)
    waits = found - submit[BEGINNING]
    # A job is only ever held up by what was submitted before it ended: the tail is cut off.
    settled = (found < submit[BEGINNING].max()) | WHOLE
    assert np.count_nonzero(settled) > 300
    assert np.count_nonzero(waits[settled] != reference[column][BEGINNING][settled]) == 0
