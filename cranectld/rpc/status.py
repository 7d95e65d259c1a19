"""The daemon about itself: GetStatus and Reconfigure."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass

from crane import __version__
from crane.config.load import load
from crane.config.model import ClusterConfig
from crane.v1 import control_pb2 as pb
from cranectld.core.commands import ApplyConfig
from cranectld.core.identity import Principal
from cranectld.core.query import count_states
from cranectld.rpc.pace import Pace
from cranectld.shell.effects import Links
from cranectld.shell.loop import Loop
from cranectld.shell.planning import Planning

COUNTED_AT_ONCE = 1000


class Status:
    """What `ccontrol show config`, `diag`, `ping` and `reconfigure` ask."""

    def __init__(
        self,
        loop: Loop,
        planner: Planning | None,
        links: Links,
        config_file: str,
        start_time: int,
        figures: Callable[[], Mapping[str, float]],
    ) -> None:
        """`figures`: of the parts that are neither the loop nor the planner."""
        self._loop = loop
        self._planner = planner
        self._links = links
        self._config_file = config_file
        self._start_time = start_time
        self._figures = figures

    async def reconfigure(self, caller: Principal) -> tuple[str, ...]:
        """Read the file again and put it in force; what changed. Raises CraneError, Rejected."""
        config = await asyncio.to_thread(load, self._config_file)
        changes: tuple[str, ...] = await self._loop.submit(ApplyConfig(caller, config.cluster))
        return changes

    async def get(self) -> pb.GetStatusReply:
        """Everything about the daemon."""
        state = self._loop.state
        planner = self._planner
        jobs = await self._count_jobs()
        figures = {**self._loop.figures(), **self._figures()}
        if planner is not None:
            figures |= planner.figures
        await self._loop.settled()
        return pb.GetStatusReply(
            cluster=state.config.name,
            version=__version__,
            epoch=state.epoch,
            seq=state.seq,
            durable_seq=self._loop.durable_seq,
            start_time=self._start_time,
            pid=os.getpid(),
            planner_ready=planner is not None and planner.ready,
            figures=figures,
            jobs=jobs,
            config_file=os.path.abspath(self._config_file),
            nodes_connected=len(self._links),
            config=effective(state.config),
        )

    async def _count_jobs(self) -> dict[int, int]:
        """Jobs in memory by state; array tasks count one by one."""
        counts: Counter[int] = Counter()
        jobs = list(self._loop.state.jobs.values())
        pace = Pace()
        for start in range(0, len(jobs), COUNTED_AT_ONCE):
            part = count_states(self._loop.state, jobs[start : start + COUNTED_AT_ONCE])
            counts.update({state.value: count for state, count in part.items()})
            if pace.due:
                await pace.breathe()
        return dict(sorted(counts.items()))


def effective(config: ClusterConfig) -> dict[str, str]:
    """Every single value in force, as `section.key`."""
    found: dict[str, str] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            for inner in fields(value):
                found[f"{field.name}.{inner.name}"] = str(getattr(value, inner.name))
        elif field.name == "operators":
            found["cluster.operators"] = ",".join(value)
        elif field.name not in {"nodes", "partitions"}:
            found[f"cluster.{field.name}"] = str(value)
    return found
