"""The name of an agent's own directory in the host's cgroup trees."""

from __future__ import annotations

_IDENTITY_LETTERS = 8


def agent_group(node: str, spool: str) -> str:
    """Relative directory of the groups of a node's agent; `spool`: identity of its spool (hex).

    Of its own also where two clusters on a host have a node of the same name.
    """
    return f"crane_{node}_{spool[:_IDENTITY_LETTERS]}"
