"""Classic orders of a queue, as plug-ins for research and for sites.

An order either ranks jobs once (by submission, estimate, size, area, ...) or scores them by their
wait, in which case the queue is sorted anew at every pass. `r` is the estimated runtime (s), `n`
the processors, `s` the instant of submission, `w` the wait so far. Ties fall to submission.

| name | first in the queue | source |
|---|---|---|
| fcfs | smallest s | |
| sjf | smallest r | |
| ljf | largest r (longest job) | Streit, JSSPP'02 |
| saf | smallest r n (area) | |
| f1 | smallest log10(r) n + 870 log10(s) | Carastan-Santos and de Camargo, SC'17, table 3 |
| wfp3 | largest (w/r)^3 n | Tang, Lan, Desai and Buettner, Cluster'09 |
| unicep | largest w/(log2(n) r) | Tang, Lan, Desai and Buettner, Cluster'09 |
"""

from __future__ import annotations

import numpy as np

from sched_core.columns import Ints

ORDERS = ("fcfs", "sjf", "ljf", "saf", "f1", "wfp3", "unicep")
"""Names of all orders."""
TIME_DEPENDENT = ("wfp3", "unicep")
"""Those under which jobs overtake each other as they wait."""
LOG_SCALE = 1 << 20
"""Logarithms to base 2 are integers in this unit, so that all machines agree on them."""


def rank(order: str, submit: Ints, procs: Ints, estimate: Ints) -> Ints:
    """Place of each job in a queue of all of them, by a fixed order; by submission for others.

    Jobs come in order of submission. Raises ValueError for an unknown order. O(n log n).
    """
    if order not in ORDERS:
        raise ValueError(f"no queue order {order!r}; there are {', '.join(ORDERS)}")
    turn = np.arange(len(submit), dtype=np.int64)
    keys = {
        "sjf": estimate,
        "ljf": -estimate,
        "saf": estimate * procs,
    }
    key: np.typing.NDArray[np.generic] = keys.get(order, turn)
    if order == "f1":
        key = np.log10(estimate) * procs + 870.0 * np.log10(np.maximum(submit, 1))
    places = np.empty(len(submit), np.int64)
    places[np.lexsort((turn, key))] = turn
    return places


def weight(order: str, procs: Ints, estimate: Ints) -> Ints:
    """What UNICEP divides the wait by: log2(n) r, in units of 1/LOG_SCALE s; else zeros."""
    if order != "unicep":
        return np.zeros(len(procs), np.int64)
    scaled: Ints = np.rint(np.log2(procs) * LOG_SCALE).astype(np.int64) * estimate
    return scaled
