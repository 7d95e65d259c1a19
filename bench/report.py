"""What a scenario prints: one JSON object per metric and run, with what was in force."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """Collects the metrics of one scenario and prints each as one line."""

    scenario: str
    as_json: bool = True
    params: dict[str, object] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def metric(self, name: str, value: float, unit: str, **params: object) -> None:
        """Print one figure: `params` add to what is in force for the whole scenario."""
        self.values[name] = value
        line = {
            "scenario": self.scenario,
            "metric": name,
            "value": float(f"{value:.6g}"),
            "unit": unit,
            "params": self.params | params,
        }
        if self.as_json:
            print(json.dumps(line), flush=True)
        else:
            print(f"{self.scenario:18} {name:24} {value:14,.3f} {unit}", flush=True)


def machine() -> dict[str, object]:
    """Processor, count, memory, kernel and versions: printed with every figure."""
    from importlib.metadata import version

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "numba": version("numba"),
        "root": os.geteuid() == 0,
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
    }


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile, `share` in (0, 1]. Raises ValueError on no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
