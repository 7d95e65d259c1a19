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
"""

from __future__ import annotations

from crane.session import EndCause
from craned.core.instructions import Instruction, Remember
from craned.core.lifecycle import end_steps
from craned.core.state import AgentState
from craned.core.stimuli import Contact
from craned.core.terms import runs_out


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
    if not state.kill or state.lost or not state.lease:
        return None
    return expiry(state)


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
    return Remember(Contact(state.epoch, state.lease, state.kill, state.renewed))


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
