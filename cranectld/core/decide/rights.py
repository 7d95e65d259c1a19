"""Who may do what: users with their own jobs, operators and administrators with all."""

from __future__ import annotations

from cranectld.core.commands import Refusal, Rejected
from cranectld.core.identity import Principal
from cranectld.core.state import Job, State


def is_operator(state: State, principal: Principal) -> bool:
    """Whether the caller has operator rights: an administrator, or listed in `operators`."""
    return principal.admin or principal.user in state.config.operators


def may_change(state: State, principal: Principal, job: Job) -> bool:
    """Whether the caller may change the job."""
    return principal.uid == job.uid or is_operator(state, principal)


def need_operator(state: State, principal: Principal, what: str) -> None:
    """Raise NOT_PERMITTED unless the caller is an operator; `what` completes "may not"."""
    if not is_operator(state, principal):
        raise not_permitted(principal, what)


def not_permitted(principal: Principal, what: str) -> Rejected:
    """The refusal of something that needs operator rights."""
    return Rejected(
        Refusal.NOT_PERMITTED,
        f"user {principal.user} may not {what}",
        "an operator (`operators` in the configuration) or the administrator can",
    )


def foreign_job(principal: Principal, subject: str, job: Job) -> Rejected:
    """The refusal to touch another user's job."""
    return Rejected(
        Refusal.NOT_PERMITTED,
        f"job {subject} belongs to user {job.user}, not to {principal.user}",
        "only its owner or an operator can change it",
    )
