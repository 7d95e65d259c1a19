"""When a lease runs out, and what is said of it: one rule for the agent's core and for its shims.

Imports nothing: a shim's start-up is paid by every job.
"""

from __future__ import annotations

MAX_MARGIN = 1_000_000_000
"""Nanoseconds before the end of a lease at which ending jobs begins, at most."""
LOST_CONTACT = "the lease ran out without a word from the controller (lost_contact = kill)"


def runs_out(renewed: int, lease: int) -> int:
    """Instant (ns) at which a lease of so many ns, renewed at that instant, is taken to be over:
    a little early, since with `lost_contact = kill` nothing may be alive a grace after its end.
    """
    return renewed + lease - min(lease // 10, MAX_MARGIN)
