"""Adds up what the tasks of `analyse.py` wrote, and prints a table.

    python3 reduce.py DIRECTORY PARTS

Percentiles are nearest ranks: the least wait that so many of the jobs did not exceed.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter


def rank(waits: Counter[int], percent: int) -> int:
    """The wait at a percentile."""
    wanted = -(-waits.total() * percent // 100)
    for wait in sorted(waits):
        wanted -= waits[wait]
        if wanted <= 0:
            return wait
    raise ValueError("no waits")


def row(name: str, waits: Counter[int], used: int, share: float, slowdown: float) -> str:
    """A line of the table."""
    return (
        f"{name:>10} {waits.total():>7} {used / 3600:>12.1f} {share:>7.1%}"
        f" {rank(waits, 50):>9} {rank(waits, 95):>9} {slowdown / waits.total():>9.2f}"
    )


def main() -> None:
    directory, parts = sys.argv[1], int(sys.argv[2])
    waits: dict[str, Counter[int]] = {}
    seconds: Counter[str] = Counter()
    slowdowns: dict[str, list[float]] = {}
    for part in range(parts):
        with open(os.path.join(directory, f"{part}.json"), encoding="ascii") as file:
            found = json.load(file)
        for name, sums in found.items():
            counts = {int(wait): count for wait, count in sums["waits"].items()}
            waits.setdefault(name, Counter()).update(counts)
            seconds[name] += sums["processor_seconds"]
            slowdowns.setdefault(name, []).append(sums["slowdown"])
    total = seconds.total()
    print("              jobs    processor-        wait, seconds   bounded")
    print("processors               hours   share    median      95 %  slowdown")
    for name in sorted(waits, key=lambda name: int(name.partition("-")[0])):
        sums = math.fsum(slowdowns[name])
        print(row(name, waits[name], seconds[name], seconds[name] / total, sums))
    everything = sum(waits.values(), Counter())
    every_sum = math.fsum(part for sums in slowdowns.values() for part in sums)
    print(row("all", everything, total, 1.0, every_sum))


if __name__ == "__main__":
    main()
