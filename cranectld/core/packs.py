"""Which packs of the store the state refers to: all others may be deleted."""

from __future__ import annotations

from collections.abc import Iterator

from crane.jobspec import BlobRef
from cranectld.core.state import Job, State


def live_packs(state: State) -> dict[int, None]:
    """Packs with scripts, command lines or environments that something in memory may still run:
    jobs until they are forgotten (they may be requeued), steps until they have ended. O(state).
    """
    found: dict[int, None] = {}
    for job in state.jobs.values():
        for ref in _refs(job):
            found[ref.pack] = None
    found.pop(0, None)  # no blob
    return found


def _refs(job: Job) -> Iterator[BlobRef]:
    yield job.submission.script
    yield job.submission.environment
    if job.run is not None:
        for step in job.run.steps.values():
            if step.request is not None:
                yield step.request.argv
                yield step.request.environment
