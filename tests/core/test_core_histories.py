"""Any history of commands: invariants hold, deciding mutates nothing, the log folds to the state.

Histories come from a seeded generator: hypothesis draws the seed (and shows it), which makes many
more commands per second than drawing each choice.
"""

from __future__ import annotations

import pickle
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crane.config.model import Limits, Timeouts
from crane.jobspec import BlobRef, Gres
from crane.session import EndCause, JobReleased, StepEnded, StepRequest, StepStarted
from crane.states import ENDED, JobState
from cranectld.core import commands as cmd
from cranectld.core.apply import apply
from cranectld.core.decide import decide
from cranectld.core.due import next_due
from cranectld.core.events import Logged
from cranectld.core.fold import RequestCache, deltas, rebuild
from cranectld.core.react import react
from cranectld.core.verify import verify
from cranectld.projector.service import Policy, Projector
from cranectld.shell.recover import recover
from cranectld.store.sqlite import open_store

NODES = ("n1", "n2", "n3")
SEEDS = st.integers(0, 1 << 32)


class World:
    """Draws commands that make sense more often than not, and checks after each."""

    def __init__(self, seed, s) -> None:
        self.random = Random(seed)
        self.s = s
        self.pick = self.random.choice
        self.boots = dict.fromkeys(NODES, 0)

    def draw_job(self, among=None):
        ids = [i for i in self.s.state.jobs if among is None or among(self.s.state.jobs[i])]
        return self.pick(ids) if ids else None

    def selector(self):
        job_id = self.draw_job() or 1
        kind = self.pick(["id", "id", "task", "all", "pending", "gone"])
        if kind == "all":
            return cmd.Selector(names=("a",))
        if kind == "pending":
            return cmd.Selector(everything=True, states=(1,))
        ranges = ((self.pick([0, 1, 2]), self.pick([2, 3]), 1),) if kind == "task" else ()
        return cmd.Selector(ids=(cmd.SelectedId(99 if kind == "gone" else job_id, ranges),))

    def who(self):
        return self.pick([self.s.ALICE, self.s.ALICE, self.s.BOB, self.s.OPERATOR])

    def submit(self, submission):
        target = self.draw_job() or 1
        kind = self.pick(
            ["", "", "after", "afterok", "afterany", "afternotok", "aftercorr", "task"]
        )
        after = f"{kind}:{target}" if kind else ""
        if kind == "task":
            after = f"afterok:{target}_1"
        if self.pick([0, 0, 0, 1]):
            after = self.pick(["singleton", f"{after}?afterok:{target}" if after else "singleton"])
        given = {
            "name": self.pick(["a", "b"]),
            "array": self.pick(["", "", "0-3", "0-3%2", "1-9:2"]),
            "after": after,
            "hold": self.pick([False, False, True]),
            "begin": self.pick([0, 0, self.s.now + 5 * self.s.NS]),
            "deadline": self.pick([0, 0, self.s.now + 30 * self.s.NS]),
            "time_limit": self.pick([0, 20]),
            "requeue": self.pick([None, True, False]),
            "components": self.pick(
                [{}, {}, {"min_nodes": 2}, {"exclusive": True}, {"gres": (Gres("gpu", "a100"),)}]
            ),
        }
        past = (cmd.PastJob(target, -1, self.pick([JobState.COMPLETED, JobState.FAILED]), 0, 1, 1),)
        jobs = (submission(**given),) * self.pick([1, 1, 3])
        return cmd.SubmitJobs(self.who(), jobs, past)

    def plan(self):
        starts = []
        for job_id, job in self.s.state.jobs.items():
            part = job.spec.components[0]
            count = part.min_nodes or 1
            first = self.random.randint(0, 3 - count)
            from crane.session import NodeShare

            shares = tuple(
                NodeShare(n, 4000 if part.exclusive else 1000, 100) for n in NODES[first:][:count]
            )
            slots = ((("gpu", "a100", 1),),) * count if part.gres else ()
            starts += [cmd.PlannedStart(job_id, shares, slots)] * 2
        return cmd.CommitPlan(tuple(starts))

    def reports(self):
        node = self.pick(NODES)
        out = []
        for job_id in list(self.s.state.nodes[node].jobs):
            run = self.s.state.jobs[job_id].run
            for number in run.steps:
                key = self.s.key(job_id, number)
                cause = self.pick([EndCause.EXIT, EndCause.EXIT, EndCause.TIMEOUT, EndCause.LOST])
                end = StepEnded(key, cause, self.pick([0, 0, 1]), released=self.pick([True, False]))
                out += self.pick([[], [StepStarted(key, self.s.now)], [end], [end, end]])
            out += self.pick([[], [], [JobReleased(job_id, run.attempt)]])
        return cmd.TakeReports(node, tuple(out))

    def register(self):
        node = self.pick(NODES)
        self.boots[node] += self.pick([0] * 5 + [1])
        listed = []
        for job_id in self.s.state.nodes[node].jobs:
            run = self.s.state.jobs[job_id].run
            listed += [self.s.key(job_id, step) for step in run.steps if self.random.random() < 0.8]
        listed += self.pick([[], [(77, -1, 1)]])
        from crane.session import StepKey

        keys = tuple(StepKey(*key) for key in listed)
        given = {"boot": f"b{self.boots[node]}", "spool": self.pick(["spool"] * 5 + ["other"])}
        return cmd.RegisterNode(
            self.s.registration(node, keys, host=self.pick(["host"] * 5 + [""]), **given)
        )

    def command(self, submission):
        kind = self.pick(
            ["submit"] * 4
            + ["plan"] * 6
            + ["reports"] * 6
            + ["cancel", "hold", "release", "requeue", "update", "register", "silent", "node", "step"]
            + ["tick"] * 3
        )  # fmt: skip
        if kind == "submit":
            return self.submit(submission)
        if kind == "plan":
            return self.plan()
        if kind == "reports":
            return self.reports()
        if kind == "register":
            return self.register()
        if kind == "silent":
            return cmd.NodeSilent(self.pick(NODES), self.s.now)
        if kind == "node":
            action = self.pick(["resume"] * 8 + ["drain", "down", "fail", "absent"])
            return cmd.ChangeNodes(self.s.ROOT, (self.pick(NODES),), action, "why")
        if kind == "step":
            job_id = self.draw_job(lambda job: job.run is not None) or 1
            request = StepRequest(argv=BlobRef(7, 0), ntasks=self.pick([0, 1]), overlap=True)
            return cmd.CreateStep(self.who(), job_id, request)
        if kind == "tick":
            self.s.now += self.pick([1, 10, 60]) * self.s.NS
            return cmd.Tick()
        if kind == "update":
            changes = self.pick([
                cmd.JobChanges(name="b"), cmd.JobChanges(time_limit=10),
                cmd.JobChanges(begin=self.s.now + self.s.NS), cmd.JobChanges(array_limit=1),
                cmd.JobChanges(deadline=self.s.now + 40 * self.s.NS), cmd.JobChanges(nice=3),
            ])  # fmt: skip
            return cmd.UpdateJobs(self.who(), self.selector(), changes)
        make = {
            "cancel": cmd.CancelJobs, "hold": cmd.HoldJobs,
            "release": cmd.ReleaseJobs, "requeue": cmd.RequeueJobs,
        }[kind]  # fmt: skip
        return make(self.who(), self.selector())


def cluster(scenario, lost_contact="kill"):
    timeouts = Timeouts(lost_contact=lost_contact, lease=20, min_job_age=50)
    return scenario(scenario.make_config(timeouts=timeouts, limits=Limits(max_requeue=2)))


def step(s, command):
    """One command as the shell takes it, with all that must hold checked."""
    before = pickle.dumps(s.state) if len(s.log) % 3 == 0 else b""
    try:
        decision = decide(s.state, command, s.now)
    except cmd.Rejected:
        decision = None
    if before:
        assert pickle.dumps(s.state) == before, "deciding changed the state"
    if decision is None:
        return
    for event in decision.events:
        logged = Logged(s.state.seq + 1, s.now, event)
        apply(s.state, logged)
        react(s.state, logged)
        s.log.append(logged)
    verify(s.state)


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_any_history_keeps_every_invariant(scenario, submission, seed):
    s = cluster(scenario)
    world = World(seed, s)
    for _ in range(world.random.randint(5, 80)):
        step(s, world.command(submission))
    assert s.replayed() == s.state


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_the_planners_view_follows_every_history(scenario, submission, seed):
    """Rows changed by deltas are the rows of the whole state."""
    s = cluster(scenario, "keep")
    world, cache = World(seed, s), RequestCache()
    view = {}
    fold_rows(view, rebuild(s.state, cache))
    for _ in range(world.random.randint(5, 60)):
        seen = len(s.log)
        step(s, world.command(submission))
        fold_rows(view, deltas(s.state, s.log[seen:], cache))
        whole = {}
        fold_rows(whole, rebuild(s.state, cache))
        assert view == whole


def fold_rows(view, rows):
    for row in rows:
        kind = type(row).__name__
        if kind == "Reset":
            view.clear()
        elif kind.startswith("Not"):
            view.pop((kind.removeprefix("Not"), row.job_id), None)
        elif kind == "PolicyRow":
            view[kind] = row
        elif kind == "Instant":
            pass
        elif kind == "UsageRow":
            view[kind, row.account, row.user] = row
        else:
            key = row.name if kind == "NodeRow" else row.job_id
            view[kind.removesuffix("Row"), key] = row


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_once_faults_stop_every_job_that_may_start_ends(scenario, submission, seed):
    """After any history, healthy agents and a planner that does its work bring all jobs to an end."""
    s = cluster(scenario)
    world = World(seed, s)
    for _ in range(world.random.randint(5, 60)):
        step(s, world.command(submission))
    s.do(cmd.ChangeNodes(s.ROOT, NODES, "resume"))
    s.do(cmd.ReleaseJobs(s.ROOT, cmd.Selector(everything=True)))
    for _ in range(60):
        for node in NODES:
            register_truthfully(s, node)
            end_everything(s, node)
        s.wait(60)
        step(s, whole_plan(s))
        s.do(cmd.ReleaseJobs(s.ROOT, cmd.Selector(everything=True)))
        if all(job.state in ENDED or job.unmet or hopeless(job) for job in s.state.jobs.values()):
            break
    left = [
        j.job_id for j in s.state.jobs.values() if not (j.state in ENDED or j.unmet or hopeless(j))
    ]
    assert left == []
    assert s.replayed() == s.state


def hopeless(job):
    """An array whose tasks that are left wait for what can never come."""
    return job.array is not None and not job.array.running and not job.array.free


def register_truthfully(s, node):
    keys = [
        s.key(job_id, step)
        for job_id in s.state.nodes[node].jobs
        for step in s.state.jobs[job_id].run.steps
    ]
    known = s.state.nodes[node]
    who = {"boot": known.boot_id, "spool": known.spool_id, "host": known.host_id}
    s.register(node, keys, **(who if known.boot_id else {}))


def end_everything(s, node):
    for job_id in list(s.state.nodes[node].jobs):
        run = s.state.jobs[job_id].run
        if run is None:
            continue
        for number, step_ in list(run.steps.items()):
            if node in step_.waiting:
                s.report(node, s.end_report(job_id, step=number, released=False))
        if job_id in s.state.jobs and s.state.jobs[job_id].run is not None:
            s.released(job_id, node)


def whole_plan(s):
    from crane.session import NodeShare

    starts = []
    for job_id, job in s.state.jobs.items():
        part = job.spec.components[0]
        count = part.min_nodes or 1
        cpus = 4000 if part.exclusive else 1000
        slots = ((("gpu", "a100", 1),),) * count if part.gres else ()
        for shift in range(3 - count + 1):
            shares = tuple(NodeShare(n, cpus) for n in NODES[shift : shift + count])
            starts += [cmd.PlannedStart(job_id, shares, slots)]
    return cmd.CommitPlan(tuple(starts))


def test_what_is_due_is_never_in_the_past_after_a_tick(scenario):
    s = cluster(scenario)
    job_id = s.submit(time_limit=10, deadline=s.now + 20 * s.NS)
    assert next_due(s.state) == s.now + 10 * s.NS
    s.cancel(job_id)
    assert next_due(s.state) == s.now + 50 * s.NS, "the deadline of a job that ended is not due"
    s.wait(51)
    assert next_due(s.state) is None


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_the_real_store_gives_back_every_history(scenario, submission, tmp_path_factory, seed):
    """Batches in SQLite, snapshots by the projector at any point, and what follows folded in."""
    s = cluster(scenario)
    world = World(seed, s)
    path = str(tmp_path_factory.mktemp("store"))
    store, projector, written = open_store(path), None, 0
    try:
        for _ in range(world.random.randint(5, 60)):
            step(s, world.command(submission))
            if len(s.log) > written and world.random.random() < 0.5:
                store.append(s.log[written:])
                written = len(s.log)
                if world.random.random() < 0.2:
                    projector = projector or Projector(path, Policy())
                    projector.catch_up()
                    projector.snapshot()
        if len(s.log) > written:
            store.append(s.log[written:])
    finally:
        if projector is not None:
            projector.close()
        store.close()
    store = open_store(path)
    try:
        assert recover(store) == s.state
    finally:
        store.close()
