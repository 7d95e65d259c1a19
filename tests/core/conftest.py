"""A small driver of the core: decides, applies, reacts, keeps the log, and checks after each step."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from crane.arrayspec import parse as parse_array
from crane.config.model import (
    ClusterConfig,
    Limits,
    NodeConfig,
    PartitionConfig,
)
from crane.dependency import parse as parse_dependency
from crane.jobspec import BATCH_STEP, Component, Gres, JobSpec, Submission
from crane.session import (
    DeviceCount,
    EndCause,
    EndJob,
    Inventory,
    JobReleased,
    LaunchStep,
    NodeShare,
    Registration,
    SetTimeLimit,
    SignalJob,
    StepEnded,
    StepKey,
    StepStarted,
)
from cranectld.core import commands as cmd
from cranectld.core.apply import apply
from cranectld.core.decide import decide
from cranectld.core.due import next_due
from cranectld.core.effects import SendOrder
from cranectld.core.events import Logged
from cranectld.core.fold import RequestCache, deltas, rebuild
from cranectld.core.identity import CONTROLLER, Principal
from cranectld.core.react import react
from cranectld.core.state import State
from cranectld.core.verify import verify
from sched_core.warmup import warmup

NS = 1_000_000_000
START = 1_700_000_000 * NS
ALICE = Principal(1001, 1001, "alice")
BOB = Principal(1002, 1002, "bob")
OPERATOR = Principal(1003, 1003, "olga")
ROOT = Principal(0, 0, "root", admin=True)


def make_config(nodes=("n1", "n2", "n3"), **changes) -> ClusterConfig:
    """Three nodes of 4 CPUs, 8 GiB and 2 A100; partition main (default) has all, short the first."""
    base = ClusterConfig(
        nodes=tuple(
            NodeConfig(
                name=name,
                cpus=4000,
                memory=8192,
                gres=(Gres("gpu", "a100", 2),),
                features=("ib",) if name == "n1" else (),
            )
            for name in nodes
        ),
        partitions=(
            PartitionConfig("main", tuple(nodes), default=True),
            PartitionConfig("short", tuple(nodes[:1]), max_time=3600),
        ),
        operators=("olga",),
        limits=Limits(max_array_size=2_000_000),
    )
    return replace(base, **changes)


class Scenario:
    """A controller without a shell. `strict`: verify after every command."""

    ALICE, BOB, OPERATOR, ROOT = ALICE, BOB, OPERATOR, ROOT
    NS, START = NS, START
    make_config = staticmethod(make_config)

    def __init__(self, config: ClusterConfig | None = None, *, strict=True, up=True) -> None:
        self.state = State()
        self.log: list[Logged] = []
        self.orders: list[SendOrder] = []
        self.now = START
        self.strict = strict
        self.do(cmd.StartEpoch())
        self.config = config if config is not None else make_config()
        self.do(cmd.ApplyConfig(CONTROLLER, self.config))
        if up:
            for node in self.config.nodes:
                self.register(node.name)

    # --- driving ---

    def do(self, command, *, keep=True):
        """Decide, apply, react; gives the reply. Rejections pass through."""
        decision = decide(self.state, command, self.now)
        effects = []
        for event in decision.events:
            logged = Logged(self.state.seq + 1, self.now, event)
            apply(self.state, logged)
            effects += react(self.state, logged)
            if keep:
                self.log.append(logged)
        effects += decision.effects
        self.orders += [effect for effect in effects if isinstance(effect, SendOrder)]
        if self.strict:
            verify(self.state)
        return decision.reply

    def refused(self, command) -> str:
        """The code with which a command is rejected."""
        with pytest.raises(cmd.Rejected) as caught:
            self.do(command)
        return caught.value.code

    def drain(self, kind=None):
        """The orders since the last call as (node, order); `kind` picks one type."""
        found = [(sent.node, sent.order) for sent in self.orders]
        self.orders.clear()
        return [pair for pair in found if kind is None or isinstance(pair[1], kind)]

    def replayed(self) -> State:
        """The log folded from scratch."""
        state = State()
        for logged in self.log:
            apply(state, logged)
        return state

    def wait(self, seconds: float) -> None:
        """Time passes; what comes due is acted upon."""
        end = self.now + int(seconds * NS)
        for _ in range(10_000):
            due = next_due(self.state)
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            before = self.state.seq
            self.do(cmd.Tick())
            assert self.state.seq > before, "what is due must be acted upon"
        self.now = end

    # --- jobs ---

    def submit(self, count=1, who=ALICE, **given):
        """Submit equal jobs; the one id, or all of them."""
        jobs = (make_submission(**given),) * count
        reply = self.do(cmd.SubmitJobs(who, jobs, past=given.get("past", ())))
        return reply[0] if count == 1 else reply

    def job(self, job_id):
        return self.state.jobs[job_id]

    def states(self, *job_ids) -> str:
        """Two-letter states."""
        return " ".join(self.state.jobs[job_id].state.code for job_id in job_ids)

    def start(self, job_id, *nodes, cpus=1000, memory=0, tasks=1, slots=(), times=1) -> int:
        """Propose a start on these nodes (n1 unless given); how many were accepted."""
        nodes = nodes or ("n1",)
        shares = tuple(NodeShare(node, cpus, memory, (), tasks) for node in nodes)
        planned = cmd.PlannedStart(job_id, shares, (tuple(slots),) * len(nodes) if slots else ())
        return self.do(cmd.CommitPlan((planned,) * times))

    def select(self, *ids):
        """A selector of ids: `5`, or `(5, first, last)`."""
        return cmd.Selector(
            ids=tuple(
                cmd.SelectedId(i)
                if isinstance(i, int)
                else cmd.SelectedId(i[0], ((i[1], i[2], 1),))
                for i in ids
            )
        )

    def cancel(self, *ids, who=ALICE, signal=0):
        return self.do(cmd.CancelJobs(who, self.select(*ids), signal))

    def errors(self, outcomes) -> list[str]:
        """Codes of the outcomes, '' for done."""
        return [outcome.error.code if outcome.error else "" for outcome in outcomes]

    # --- agents ---

    def registration(
        self, node, running=(), boot="boot", spool="spool", cpus=4000, memory=8192, held_lease=0.0,
        host="host",
    ):  # fmt: skip
        inventory = Inventory(cpus, memory, (DeviceCount("gpu", "a100", 2),))
        address, incarnation = f"{node}.net", f"inc{self.now}"
        return Registration(
            node, address, incarnation, boot, spool, inventory, running, held_lease, host
        )

    def register(self, node, running=(), **given):
        return self.do(cmd.RegisterNode(self.registration(node, tuple(running), **given)))

    def key(self, job_id, step=BATCH_STEP):
        return StepKey(job_id, step, self.state.jobs[job_id].attempt)

    def started(self, job_id, node="n1", step=BATCH_STEP):
        self.report(node, StepStarted(self.key(job_id, step), self.now, 42))

    def end_report(
        self, job_id, step=BATCH_STEP, cause=EndCause.EXIT, code=0, signal=0, released=True
    ):
        return StepEnded(
            self.key(job_id, step),
            cause,
            code,
            signal,
            "",
            self.now,
            self.now,
            1000,
            2000,
            released,
        )

    def ended(self, job_id, node="n1", **given):
        """The node reports the end of the batch script."""
        self.report(node, self.end_report(job_id, **given))

    def released(self, job_id, node, attempt=None):
        attempt = attempt or self.state.jobs[job_id].attempt
        self.report(node, JobReleased(job_id, attempt))

    def report(self, node, *reports):
        self.do(cmd.TakeReports(node, reports))

    def silent(self, node):
        self.do(cmd.NodeSilent(node, self.now))

    def run_through(self, job_id, node="n1", **given):
        """Start on one node and end."""
        assert self.start(job_id, node) == 1
        self.ended(job_id, node, **given)

    # order types, so that tests need not import them all
    LaunchStep, EndJob, SetTimeLimit, SignalJob = LaunchStep, EndJob, SetTimeLimit, SignalJob


def make_submission(
    name="job", array="", after="", components=None, partitions=(), component=None, **spec
) -> Submission:
    """A submission in few words: `after="afterok:1"`, `array="0-9%2"`, spec fields by name."""
    spec.pop("past", None)
    part = component or Component(**(components or {}))
    return Submission(
        spec=JobSpec(components=(part,), partitions=partitions, **spec),
        name=name,
        dependency=parse_dependency(after) if after else None,
        array=parse_array(array) if array else None,
    )


@pytest.fixture
def s() -> Scenario:
    """Three nodes up, nothing submitted."""
    return Scenario()


@pytest.fixture(scope="session")
def scenario():
    """The Scenario class."""
    return Scenario


@pytest.fixture(scope="session")
def submission():
    """`make_submission`."""
    return make_submission


@pytest.fixture(autouse=True)
def _drained(request):
    """A test that looks at no orders drains none; one that drains must have seen them all."""
    yield
    given = request.node.funcargs.get("s")
    if given is not None and given.log:
        replayed = given.replayed()
        assert replayed == given.state, "the log folded anew differs from the live state"


class PlannerBeside:
    """The planner without its thread, beside a scenario."""

    def __init__(self, scenario):
        from cranectld.shell.passes import Passes

        self.s, self.cache, self.passes = scenario, RequestCache(), Passes()
        self.passes.fold(rebuild(scenario.state, self.cache), scenario.now)
        self.seen = len(scenario.log)

    def make(self, *, commit=True):
        """A pass, as of now; by job its planned start in seconds from the beginning."""
        from cranectld.shell.proposals import proposals

        self._catch_up()
        self.passes.use(self.passes.tables.policy)
        plan = self.passes.make(self.s.now)
        taken = 0
        if plan.starts and commit:
            taken = self.s.do(cmd.CommitPlan(proposals(plan, self.passes.tables.tables)))
        self.passes.forecast(plan, self.s.now)
        self.passes.decided(plan, taken, self.s.now)
        since = self.s.START // self.s.NS
        planned = [when - since if when >= 0 else -1 for when in plan.planned.tolist()]
        return dict(zip(plan.job.tolist(), planned, strict=True))

    def move(self, job_id):
        """Where the promise was first, in seconds from the beginning, and why it moved."""
        found = self.passes.moves.find(job_id)
        return found and (found.promised - self.s.START // self.s.NS, found.cause)

    @property
    def freed(self):
        self._catch_up()
        return self.passes.tables.standing.promises().freed

    def _catch_up(self):
        changes = deltas(self.s.state, self.s.log[self.seen :], self.cache)
        self.passes.fold(changes, self.s.now)
        self.seen = len(self.s.log)


@pytest.fixture(scope="session")
def planning():
    """`PlannerBeside`: passes over the fold of a scenario's events, with compiled kernels."""
    if "NUMBA_DISABLE_JIT" not in os.environ:
        for group in ("conservative", "priority"):
            warmup(group=group)
    return PlannerBeside
