"""The World as a stand-in for thousands of agents: no faults, no checks, driven as fast as it goes.

The controller's core, its log codec, the planner and every agent's core are the real ones; only the
hosts are fake. Benchmarks measure what the controller costs without thousands of machines:

    scale = Scale(nodes=100, cpus=32)
    job_id = scale.submit_array(200_000)
    scale.run_until_ended(job_id, 200_000)
"""

from __future__ import annotations

import time

from crane.jobspec import UNLIMITED, ArraySpec, BlobRef, Component, JobSpec, Submission
from crane.states import JobState
from cranectld.core.commands import Rejected, SubmitJobs
from cranectld.core.identity import Principal
from cranectld.core.state import State
from cranectld.sim.clock import MS, seconds
from cranectld.sim.cluster import plain_cluster
from cranectld.sim.host import Behaviour
from cranectld.sim.world import Options, World

ANN = Principal(1000, 1000, "ann")
SCRIPT = BlobRef(1, 0)
STALL = seconds(24 * 3600)
"""Simulated time after which a run that does not end is given up."""


class Scale:
    """A quiet cluster of equal nodes; every task runs `task_seconds`."""

    def __init__(
        self,
        nodes: int,
        cpus: int,
        *,
        task_seconds: float = 1.0,
        planner: str = "real",
        seed: int = 1,
        keep_log: bool = False,
    ) -> None:
        """`cpus` per node. `keep_log` False: rows are encoded and dropped, so that the memory
        measured is the state's, not the fake disk's.
        """
        behaviour = Behaviour(seconds(task_seconds))
        options = Options(planner=planner, faults=False, checking=False)
        self.world = World(seed, options, plain_cluster(nodes, cpus), lambda _order: behaviour)
        self.world.log.keeping = keep_log
        self.world.start()
        self.world.run_until(self.world.clock.now + seconds(3))

    @property
    def state(self) -> State:
        """The controller's state."""
        controller = self.world.controller
        assert controller is not None
        return controller.state

    def submit(self, jobs: tuple[Submission, ...]) -> tuple[int, ...]:
        """Submit; gives the job ids once they are durable. Raises the first refusal."""
        controller = self.world.controller
        assert controller is not None
        answers: list[object] = []
        controller.submit(SubmitJobs(ANN, jobs), answers.append)
        while not answers:
            self.world.step()
        reply = answers[0]
        if isinstance(reply, Rejected):
            raise reply
        assert isinstance(reply, tuple)
        for found in reply:
            if isinstance(found, Rejected):
                raise found
        return reply

    def submit_array(self, tasks: int) -> int:
        """One array of so many one-CPU tasks; gives its job id."""
        array = ArraySpec(((0, tasks - 1, 1),))
        spec = JobSpec((Component(),), time_limit=UNLIMITED)
        return self.submit((Submission(spec, "array", SCRIPT, array=array),))[0]

    def ended(self, job_id: int) -> int:
        """How many tasks of an array have ended."""
        record = self.state.jobs[job_id].array
        assert record is not None
        return sum(record.ended.values())

    def run_until_ended(self, job_id: int, tasks: int) -> float:
        """Let at least so many tasks of an array end; gives the real seconds it took."""
        began, deadline = time.perf_counter(), self.world.clock.now + STALL
        while self.ended(job_id) < tasks:
            if self.world.clock.now > deadline:
                raise RuntimeError(f"only {self.ended(job_id)} of {tasks} tasks have ended")
            self.world.run_until(self.world.clock.now + 100 * MS)
        return time.perf_counter() - began

    def completed(self, job_id: int) -> int:
        """How many tasks of an array ended well."""
        record = self.state.jobs[job_id].array
        assert record is not None
        return record.ended.get(JobState.COMPLETED, 0)
