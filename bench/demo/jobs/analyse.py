"""Array task: one part of a workload trace, as counts and sums that `reduce.py` can add up.

    python3 analyse.py TRACE.swf.gz DIRECTORY

Task k of n takes every n-th job of the trace from the k-th on. Per size class it writes to
DIRECTORY/k.json how many jobs there were, the processor-seconds they used, how often each wait
(seconds) occurred, and the sum of their bounded slowdowns (Feitelson and Rudolph, JSSPP 1998).
"""

from __future__ import annotations

import gzip
import json
import math
import os
import sys
from collections import Counter

CLASSES = ((1, 1), (2, 4), (5, 8), (9, 16), (17, 32), (33, 100))
"""Processors of a job: the least and the most of each class."""
SHORTEST = 10
"""Seconds: shorter run times count as this in the slowdown."""


def size_class(processors: int) -> str:
    """`9-16`, or `1`."""
    for least, most in CLASSES:
        if least <= processors <= most:
            return str(most) if least == most else f"{least}-{most}"
    raise ValueError(f"no class for {processors} processors")


def main() -> None:
    trace, directory = sys.argv[1:]
    part = int(os.environ["CRANE_ARRAY_TASK_ID"])
    parts = int(os.environ["CRANE_ARRAY_TASK_COUNT"])
    found: dict[str, dict[str, object]] = {}
    waits: dict[str, Counter[int]] = {}
    seconds: Counter[str] = Counter()
    slowdowns: dict[str, list[float]] = {}
    with gzip.open(trace, "rt", encoding="ascii", errors="replace") as lines:
        jobs = (line for line in lines if not line.startswith(";"))
        for number, line in enumerate(jobs):
            if number % parts != part:
                continue
            wait, run, processors = (int(float(word)) for word in line.split()[2:5])
            if wait < 0 or run < 0 or processors < 1:
                continue  # the trace does not know
            name = size_class(processors)
            waits.setdefault(name, Counter())[wait] += 1
            seconds[name] += run * processors
            slowdown = max(1.0, (wait + run) / max(run, SHORTEST))
            slowdowns.setdefault(name, []).append(slowdown)
    for name, counts in waits.items():
        found[name] = {
            "waits": counts,
            "processor_seconds": seconds[name],
            "slowdown": math.fsum(slowdowns[name]),
        }
    with open(os.path.join(directory, f"{part}.json"), "w", encoding="ascii") as file:
        json.dump(found, file)
    total = sum(sum(counts.values()) for counts in waits.values())
    print(f"part {part} of {parts} on {os.environ['CRANED_NODENAME']}: {total} jobs")


if __name__ == "__main__":
    main()
