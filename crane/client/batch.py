"""Batches of jobs as requests: what jobs share (descriptions, scripts, environments) goes once."""

from __future__ import annotations

from crane.client import encode

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from crane.client.newjob import NewJob
    from crane.jobspec import JobSpec

BATCH_JOBS = 1_000
"""Jobs in one request; the controller's own bound is 10,000 (`limits.max_batch`)."""

BATCH_BYTES = 8 << 20
"""Bytes of scripts and environments after which a request is sent."""


class Batch:
    """One `SubmitJobsRequest` being filled."""

    def __init__(self, pb: Any) -> None:
        """`pb` has the messages (crane.wire.light or the generated modules)."""
        self._pb = pb
        self._specs: dict[JobSpec, int] = {}
        self._spec_of: dict[int, int] = {}
        self._kept: list[JobSpec] = []
        self._blobs: dict[bytes, int] = {}
        self._jobs: list[Any] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def full(self) -> bool:
        """Whether it is time to send it."""
        return len(self._jobs) >= BATCH_JOBS or self._bytes >= BATCH_BYTES

    def add(self, job: NewJob) -> None:
        """Add one job."""
        pb = self._pb
        self._jobs.append(
            pb.SubmitJobsRequest.Submission(
                spec=self._spec(job.spec),
                name=job.name,
                script=self._blob(job.script),
                environment=self._blob(job.environment),
                args=list(job.args),
                dependency=encode.dependency(pb, job.dependency),
                array=encode.array(pb, job.array),
                command=job.command,
            )
        )

    def encoded(self, *, dry_run: bool = False) -> bytes:
        """The request, encoded."""
        request = self._pb.SubmitJobsRequest(
            specs=[encode.spec(self._pb, spec) for spec in self._specs],
            blobs=list(self._blobs),
            jobs=self._jobs,
            dry_run=dry_run,
        )
        body: bytes = request.SerializeToString()
        return body

    def _spec(self, spec: JobSpec) -> int:
        """Index of a description; the same object is found without comparing it again."""
        index = self._spec_of.get(id(spec))
        if index is None:
            index = self._specs.setdefault(spec, len(self._specs))
            self._spec_of[id(spec)] = index
            self._kept.append(spec)  # keeps the id from being given to another object
        return index

    def _blob(self, content: bytes) -> int:
        """1 + index of a blob; 0 for none."""
        if not content:
            return 0
        number = self._blobs.get(content)
        if number is None:
            number = self._blobs[content] = len(self._blobs) + 1
            self._bytes += len(content)
        return number


def batches(pb: Any, jobs: Iterable[NewJob]) -> Iterator[Batch]:
    """Jobs in as few requests as the bounds allow, in order."""
    batch = Batch(pb)
    for job in jobs:
        batch.add(job)
        if batch.full:
            yield batch
            batch = Batch(pb)
    if len(batch):
        yield batch
