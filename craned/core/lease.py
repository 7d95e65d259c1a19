"""The lease: how long jobs may run without a word from a controller.

It runs from the instant at which the agent sent what the controller says it has heard, not from the
arrival of that answer (Gray and Cheriton, "Leases", SOSP 1989): the controller's own count, which
runs from what it heard last, then ends no earlier. Where jobs are killed on lost contact nothing of
them may be alive at last_heard + lease + kill_grace, so ending them begins a little before the
lease is over, to leave time for SIGKILL.

The shims do the same by what was put on disk (craned.exec.lease), for when the agent is dead. What is
on disk is at most what is known here, so it is no longer than the controller's count either, whatever
is written when; it follows at a twentieth of the lease, so that a session that is heard every third
of one (craned.link.session) renews it before half of it has passed.

When the terms change (`lost_contact`, the lease), steps that run already follow: their shims look at
the disk from time to time, by rules that say until when each has done so (`terms.look_gap`). Only
then the agent registers once more and says so (`claim`), and only then the controller counts with the
new terms; until then it takes the weaker of both.
"""

from __future__ import annotations

from crane.session import EndCause
from craned.core.instructions import Hangup, Instruction, Remember
from craned.core.lifecycle import end_steps
from craned.core.state import AgentState
from craned.core.stimuli import Contact
from craned.core.terms import look_gap, runs_out

SLACK = 1_000_000_000
"""Nanoseconds that a shim may be late."""
NEVER = 1 << 62


def expiry(state: AgentState) -> int:
    """Instant at which jobs are ended (or no more are taken) without a word; 0: never."""
    if not state.lease:
        return 0
    return runs_out(state.renewed, state.lease)


def expired(state: AgentState, now: int) -> bool:
    """Whether the controller may believe by now that nothing runs here."""
    return state.kill and 0 < expiry(state) <= now


def next_due(state: AgentState) -> int | None:
    """Instant at which a Tick has something to do; None: no such instant is known."""
    if not state.kill or not state.lease:
        return None
    due = [] if state.lost else [expiry(state)]
    if _to_confirm(state):
        due.append(state.settled)
    return min(due, default=None)


def renew(state: AgentState, sent: int) -> list[Instruction]:
    """The controller has heard what was sent at that instant."""
    if sent <= state.renewed and not state.lost:
        return []
    state.renewed = max(state.renewed, sent)
    state.lost = False
    if state.kill and state.renewed - state.remembered < state.lease // 20:
        return []
    if not state.kill and state.remembered:
        return []  # nothing is done when the lease is over: the disk need not follow
    return [remember(state)]


def remember(state: AgentState) -> Instruction:
    """Keep the last word with the controller on disk."""
    state.remembered = state.renewed
    return Remember(Contact(state.epoch, state.lease, state.kill, state.renewed, state.settled))


def hold(state: AgentState, lease: int, kill: bool, now: int) -> None:
    """These are the terms from now on; to be put on disk before anything else is done."""
    if (lease, kill) == (state.lease, state.kill):
        return
    looked = now + look_gap(state.lease if state.kill else 0) + SLACK
    state.settled = max(state.settled, looked) if state.jobs else now
    state.lease, state.kill = lease, kill


def claim(state: AgentState, now: int) -> int:
    """For a registration: the lease (ns) that every step here is sure to be ended by, whatever it was
    launched under; 0: none, or it is not known yet.
    """
    state.claimed = state.lease if state.kill and state.settled <= now else 0
    return state.claimed


def _to_confirm(state: AgentState) -> bool:
    """Whether the controller counts with weaker terms than those that will have been settled."""
    return state.connected and state.claimed != state.lease and state.settled < NEVER


def confirm(state: AgentState, now: int) -> list[Instruction]:
    """Register again once every step is held to the present terms."""
    if not state.kill or not _to_confirm(state) or now < state.settled:
        return []
    state.claimed = state.lease
    return [Hangup(state.stream, "every step goes by the new lease: registering again to say so")]


def expire(state: AgentState, now: int) -> list[Instruction]:
    """End everything if the lease has run out and that is what is wanted."""
    if state.lost or not expired(state, now):
        return []
    state.lost = True
    instructions: list[Instruction] = []
    for job_id in list(state.jobs):
        for attempt in list(state.jobs[job_id].values()):
            if attempt.live:
                attempt.ending = True
                instructions += end_steps(state, attempt, EndCause.LOST)
    return instructions
