"""EASY with learnt runtimes, spelled out, for tests. Imports nothing of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class UserJob:
    """A job of a pool workload: seconds, processors, and who submitted it."""

    submit: int
    processors: int
    estimate: int
    runtime: int
    user: int


@dataclass
class Knowledge:
    """What jobs that ended, and those that still run, have taught."""

    seconds: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """Average by user, limit and processors."""
    thousandths: dict[int, int] = field(default_factory=dict)
    """Average share of the limit by user."""

    def of(self, job: UserJob) -> int:
        """Predicted runtime."""
        kind = (job.user, job.estimate, job.processors)
        guess = job.estimate
        if kind in self.seconds:
            guess = self.seconds[kind]
        elif job.user in self.thousandths:
            guess = job.estimate * self.thousandths[job.user] // 1000
        return max(1, min(job.estimate, guess))

    def ended(self, job: UserJob) -> None:
        """Learn a runtime."""
        kind = (job.user, job.estimate, job.processors)
        share = job.runtime * 1000 // job.estimate
        if kind in self.seconds:
            self.seconds[kind] = (self.seconds[kind] + job.runtime) // 2
        else:
            self.seconds[kind] = job.runtime
        if job.user in self.thousandths:
            self.thousandths[job.user] = (self.thousandths[job.user] + share) // 2
        else:
            self.thousandths[job.user] = share

    def runs_for(self, job: UserJob, elapsed: int) -> None:
        """Correct what a running job has exceeded."""
        kind = (job.user, job.estimate, job.processors)
        if kind in self.seconds:
            self.seconds[kind] = max(self.seconds[kind], elapsed)


@dataclass
class Replay:
    """The state of a replay; `jobs` in order of submission."""

    jobs: Sequence[UserJob]
    processors: int
    threshold: int
    starts: dict[int, int] = field(default_factory=dict)
    queue: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    known: Knowledge = field(default_factory=Knowledge)
    head: int | None = None
    promises: dict[int, int] = field(default_factory=dict)

    def free(self) -> int:
        """Processors free now."""
        return self.processors - sum(self.jobs[i].processors for i in self.running)

    def begin(self, job: int, now: int) -> None:
        """Start a job."""
        self.queue.remove(job)
        self.running.append(job)
        self.starts[job] = now

    def slowdown(self, job: int, now: int) -> int:
        """Expected slowdown less 1, in thousandths; a minute is added to the prediction."""
        wait = now - self.jobs[job].submit
        return wait * 1000 // (self.known.of(self.jobs[job]) + 60)

    def reservation(self, head: int, now: int) -> tuple[int, int]:
        """Shadow time and extra processors, if every running job runs to its limit."""
        ends = {i: max(self.starts[i] + self.jobs[i].estimate, now + 1) for i in self.running}
        for shadow in sorted(set(ends.values())):
            gone = sum(self.jobs[i].processors for i, end in ends.items() if end <= shadow)
            if self.free() + gone >= self.jobs[head].processors:
                return shadow, self.free() + gone - self.jobs[head].processors
        raise AssertionError("a job is larger than the pool")

    def make_pass(self, now: int) -> None:
        """Start the head and the most urgent while they fit, then shorter ones beside the head."""
        while self.queue:
            job = self.head
            if job is None:
                job = min(self.queue, key=lambda i: (-self.slowdown(i, now), i))
            if self.jobs[job].processors > self.free():
                if self.slowdown(job, now) >= self.threshold:
                    self.head = job
                break
            self.begin(job, now)
            self.head = None
        shadow, extra = None, 0
        if self.head is not None:
            shadow, extra = self.reservation(self.head, now)
            self.promises.setdefault(self.head, shadow)
        for i in sorted(self.queue, key=lambda i: (self.known.of(self.jobs[i]), i)):
            size = self.jobs[i].processors
            late = shadow is not None and now + self.jobs[i].estimate > shadow
            if i != self.head and size <= self.free() and not (late and size > extra):
                self.begin(i, now)
                extra -= size * late


def learned_schedule(
    jobs: Sequence[UserJob], processors: int, threshold: int
) -> tuple[list[int], dict[int, int]]:
    """Start of each job, and what each that was ever head was promised. Jobs by submission.

    Batch semantics: at each instant all ends (least job first), then all submissions, then a pass.
    """
    replay = Replay(jobs, processors, threshold)
    arrived = 0
    while arrived < len(jobs) or replay.running:
        ends = {i: replay.starts[i] + jobs[i].runtime for i in replay.running}
        now = min([*ends.values(), *(job.submit for job in jobs[arrived : arrived + 1])])
        for i in sorted(i for i, end in ends.items() if end == now):
            replay.running.remove(i)
            replay.known.ended(jobs[i])
        while arrived < len(jobs) and jobs[arrived].submit <= now:
            replay.queue.append(arrived)
            arrived += 1
        for i in replay.running:
            replay.known.runs_for(jobs[i], now - replay.starts[i])
        replay.make_pass(now)
    return [replay.starts[i] for i in range(len(jobs))], replay.promises
