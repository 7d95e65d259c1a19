"""What single keys cannot tell: rules between the keys of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crane.errors import ErrorCode
from crane.jobspec import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crane.config.model import Config

Problem = tuple[str, ErrorCode, str, str]
"""Place, code, message, hint."""


def check(config: Config) -> Iterator[Problem]:
    """Every contradiction of a configuration whose keys are right one by one."""
    yield from _partitions(config)
    yield from _timeouts(config)
    if config.controller.socket == config.agent.socket:
        yield (
            "agent.socket",
            ErrorCode.CONFIG_VALUE,
            "controller and agent have the same socket",
            "each needs its own",
        )
    if config.controller.state_dir == config.agent.state_dir:
        yield (
            "agent.state_dir",
            ErrorCode.CONFIG_VALUE,
            "controller and agent have the same state directory",
            "each needs its own",
        )


def _partitions(config: Config) -> Iterator[Problem]:
    defaults = 0
    for index, partition in enumerate(config.cluster.partitions):
        place = f"partitions[{index}]"
        defaults += partition.default
        if partition.default and defaults == 2:
            yield (
                f"{place}.default",
                ErrorCode.CONFIG_DUPLICATE,
                "a second default partition",
                "mark one of them",
            )
        if partition.max_time != UNLIMITED and partition.default_time > partition.max_time:
            yield (
                f"{place}.default_time",
                ErrorCode.CONFIG_VALUE,
                "default_time is longer than max_time",
                "",
            )
    if config.cluster.nodes and not config.cluster.partitions:
        yield (
            "nodes[0]",
            ErrorCode.CONFIG_REFERENCE,
            "there are nodes and no partition, so that no job could run",
            'add [[partitions]] with name = "main" and nodes = "ALL"',
        )


def _timeouts(config: Config) -> Iterator[Problem]:
    timeouts = config.cluster.timeouts
    if timeouts.node < 2 * timeouts.heartbeat:
        yield (
            "timeouts.node",
            ErrorCode.CONFIG_VALUE,
            "node is less than two heartbeats: one late message would take nodes down",
            f"at least {2 * timeouts.heartbeat:g}",
        )
    if timeouts.lease < 2 * timeouts.heartbeat:
        yield (
            "timeouts.lease",
            ErrorCode.CONFIG_VALUE,
            "lease is less than two heartbeats: one late message would end it",
            f"at least {2 * timeouts.heartbeat:g}",
        )
