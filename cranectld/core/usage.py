"""What users have used, as fair-share counts it: charged when shares are given back.

Kept while priorities are multifactor. Usage at rate `r` (thousandths of a CPU, held) counts in full
when it happens and half after a half-life (`sched_core.decay`); what one user of an account counts as
having used is one number, as of an instant, and is brought up to date only when it is charged again.
"""

from __future__ import annotations

from crane.session import NodeShare
from cranectld.core.state import Job, State
from sched_core.decay import FRACTION, Decay, exp2

NS = 1_000_000_000
USAGE_MAX = (1 << 62) - 1
"""Bound of what one user counts as having used: thousandths x seconds."""


def is_charged(state: State) -> bool:
    """Whether usage is counted under the configuration in force."""
    return state.config.priority.kind == "multifactor"


def present(amount: int, as_of: int, now: int, half_life: int) -> int:
    """What an amount as of one instant (s) counts at a later one, rounded down."""
    if not half_life or now <= as_of:
        return amount
    return amount * exp2(as_of - now, half_life) >> FRACTION


def charge(state: State, job: Job, share: NodeShare, start: int, now: int) -> None:
    """A job held a share from `start` to `now` (ns)."""
    if not is_charged(state):
        return
    half_life = state.config.priority.half_life
    begin, end = start // NS, now // NS
    decay = Decay(half_life, begin)
    (used,) = decay.present([share.cpus * (decay.growth(end) - decay.growth(begin))], end)
    user = (job.spec.account, job.user)
    amount, as_of = state.usage.get(user, (0, end))
    state.usage[user] = (min(present(amount, as_of, end, half_life) + used, USAGE_MAX), end)


def settle(state: State, half_life: int, now: int) -> None:
    """What has been used so far was forgotten by this half-life up to `now` (ns)."""
    end = now // NS
    for user, (amount, as_of) in state.usage.items():
        state.usage[user] = (present(amount, as_of, end, half_life), max(as_of, end))
