"""When a lease runs out, and what is said of it: one rule for the agent's core and for its shims.

Imports nothing: a shim's start-up is paid by every job.
"""

from __future__ import annotations

MAX_MARGIN = 1_000_000_000
"""Nanoseconds before the end of a lease at which ending jobs begins, at most."""
KEPT_LOOK = 15_000_000_000
"""Nanoseconds between two looks of a shim at the terms on disk while jobs are kept."""
LOST_CONTACT = "the lease ran out without a word from the controller (lost_contact = kill)"


def runs_out(renewed: int, lease: int) -> int:
    """Instant (ns) at which a lease of so many ns, renewed at that instant, is taken to be over:
    a little early, since with `lost_contact = kill` nothing may be alive a grace after its end.
    """
    return renewed + lease - min(lease // 10, MAX_MARGIN)


def look_gap(lease: int) -> int:
    """Nanoseconds within which a shim that goes by such a lease (0: jobs are kept) has looked at the
    terms on disk again, also if it cannot read them once (craned.exec.lease).
    """
    return 5 * (lease // 2 if lease else KEPT_LOOK) // 4
