"""Invariants of the agent's state, asserted by tests and by the simulator after every stimulus."""

from __future__ import annotations

from crane.jobspec import BATCH_STEP
from crane.session import StepEnded
from craned.core.state import MAX_STEPS, MAX_TOMBSTONES, AgentState, Attempt, Phase


def verify(state: AgentState) -> None:
    """Raise AssertionError if the state contradicts itself."""
    numbers = [*state.sent, *state.unsent]
    assert numbers == sorted(numbers), "reports are in the order of their numbers"
    assert all(0 < number < state.next_seq for number in numbers)
    assert state.connected or not state.stream or state.stream > 0
    assert len(state.ended_attempts) <= MAX_TOMBSTONES
    assert len(state.ended_steps) <= MAX_TOMBSTONES
    assert 0 <= state.steps <= MAX_STEPS
    count = 0
    for job_id, attempts in state.jobs.items():
        assert attempts, f"job {job_id} is known for nothing"
        running = [
            number
            for number, attempt in attempts.items()
            if any(s.live and s.phase is not Phase.WAITING for s in attempt.steps.values())
        ]
        assert len(running) <= 1, f"two attempts of job {job_id} run here: {running}"
        for number, attempt in attempts.items():
            assert (attempt.job_id, attempt.attempt) == (job_id, number)
            count += len(attempt.steps)
            _verify_attempt(state, attempt)
    assert count == state.steps, f"{count} steps, {state.steps} counted"


def _verify_attempt(state: AgentState, attempt: Attempt) -> None:
    assert attempt.steps, f"attempt {attempt.attempt} of job {attempt.job_id} has no step"
    assert not (attempt.released and attempt.live), "released, and alive"
    assert not attempt.released or attempt.ending, "released, and open for more"
    for number, step in attempt.steps.items():
        assert step.key == (attempt.job_id, number, attempt.attempt)
        assert (step.launch is not None) == (step.phase is Phase.WAITING), step
        assert (step.end is not None) == (step.phase is Phase.HELD), step
        if step.phase is Phase.HELD:
            assert number == BATCH_STEP, "only the batch script's end is held"
            assert attempt.live, "a held end with nothing left to wait for"
        if step.phase is Phase.ENDED:
            report = state.sent.get(step.seq) or state.unsent.get(step.seq)
            assert isinstance(report, StepEnded), f"{step.key} has ended and no report says so"
            assert report.key == step.key
        if attempt.ending and step.live and attempt.steps.get(BATCH_STEP) is None:
            assert step.phase is Phase.WAITING or step.killed is not None, step
