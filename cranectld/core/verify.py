"""Every invariant of the state, as assertions. For tests and the simulator: costs O(state)."""

from __future__ import annotations

from crane.jobspec import BATCH_STEP, DependencyKind
from crane.states import ENDED, JobState
from cranectld.core import arrays
from cranectld.core.dependency import singleton_key
from cranectld.core.due import latest_start, waits
from cranectld.core.shares import class_of, share_on
from cranectld.core.state import TASK_HELD, ArrayRecord, Job, Node, State

_LIVE = (JobState.RUNNING, JobState.COMPLETING)


def verify(state: State) -> None:
    """Raise AssertionError unless the state is sound. Holds after every command."""
    for job_id, job in state.jobs.items():
        assert job.job_id == job_id
        assert job_id < state.next_job_id
        _verify_job(state, job)
    _verify_nodes(state)
    _verify_dependents(state)
    _verify_singletons(state)
    _verify_queues(state)
    live = sum(job.array_id == 0 and job.state not in ENDED for job in state.jobs.values())
    assert state.live == live, (state.live, live)
    assert state.tasks == sum(job.array.count for job in state.jobs.values() if job.array)


def _verify_job(state: State, job: Job) -> None:
    run = job.run
    if job.array_id:
        record = state.jobs[job.array_id].array
        assert record is not None
        assert record.running[job.position] == job.job_id
        assert record.state[job.position] == job.state
        assert run is not None
    if job.array is not None:
        assert run is None
        _verify_array(state, job, job.array)
    elif job.state in _LIVE:
        assert run is not None
        assert run.attempt == job.attempt >= 1
    else:
        assert run is None, (job.job_id, job.state)
    assert (job.state in ENDED) == (job.end_time > 0), job.job_id
    if run is not None:
        assert run.holding, f"no node holds job {job.job_id}, and it has not ended"
        ending = run.ending is not None or run.batch_end is not None
        assert ending == (job.state is JobState.COMPLETING), job.job_id
        assert job.array is None
        names = [share.node for share in run.shares]
        assert len(dict.fromkeys(names)) == len(names)
        assert all(name in names for name in run.holding)
        assert all(name in run.holding for name in run.fences)
        for step in run.steps.values():
            assert all(name in run.holding for name in step.waiting), job.job_id
            made = step.step != BATCH_STEP
            assert (step.request is not None) == (made and bool(step.waiting)), job.job_id
    if job.last_run is not None:
        assert all(step.request is None for step in job.last_run.steps.values()), job.job_id


def _verify_array(state: State, job: Job, record: ArrayRecord) -> None:
    column = record.state
    assert len(column) == len(record.exit) == len(record.end_time) == record.count
    unstarted = [p for p, value in enumerate(column) if arrays.is_unstarted(value)]
    assert record.pending == len(unstarted)
    assert record.free == column.count(0)
    assert record.held == sum(bool(column[p] & TASK_HELD) for p in unstarted)
    assert column.find(0, 0, record.cursor) < 0, "a free task below the cursor"
    for position, task_id in record.running.items():
        assert state.jobs[task_id].array_id == job.job_id
        assert column[position] in _LIVE
    assert len(record.running) == sum(value in _LIVE for value in column)
    ended: dict[int, int] = {}
    for position, value in enumerate(column):
        over = not arrays.is_unstarted(value) and value not in _LIVE
        assert over == (record.end_time[position] > 0)
        if over:
            assert value in ENDED
            ended[value] = ended.get(value, 0) + 1
    assert record.ended == ended
    assert list(record.raw_ids) == list(record.attempts)
    assert all(arrays.is_unstarted(column[p]) for p in record.raw_ids)
    over = not record.pending and not record.running
    assert over == (job.state in ENDED), (job.job_id, job.state)
    if not over:
        assert job.state == (JobState.PENDING if record.pending else JobState.RUNNING)


def _verify_nodes(state: State) -> None:
    holders: dict[str, list[Job]] = {name: [] for name in state.nodes}
    for job in state.jobs.values():
        if job.run is not None:
            for name in job.run.holding:
                holders[name].append(job)
    classes: dict[object, int] = {}
    for name, node in state.nodes.items():
        assert node.config.name == name
        _verify_node(node, name, holders[name])
        kind = class_of(node)
        classes[kind] = classes.get(kind, 0) + 1
    assert state.classes == classes


def _verify_node(node: Node, name: str, jobs: list[Job]) -> None:
    assert sorted(node.jobs) == sorted(job.job_id for job in jobs)
    cpus = memory = 0
    slots = {key: [0] * len(places) for key, places in node.slots_used.items()}
    for job in jobs:
        assert job.run is not None
        share = share_on(job.run.shares, name)
        cpus += share.cpus
        memory += share.memory
        for slot in share.slots:
            for index in slot.indices:
                assert slots[slot.name, slot.type][index] == 0, "a slot is granted twice"
                slots[slot.name, slot.type][index] = job.job_id
        if job.spec.components[0].exclusive:
            assert len(jobs) == 1
            assert node.exclusive == job.job_id
    assert (node.cpus_used, node.memory_used) == (cpus, memory)
    assert node.slots_used == slots
    assert cpus <= node.cpus, f"{name} is oversubscribed"
    assert memory <= max(node.memory, 0), f"{name} is oversubscribed"
    assert node.exclusive == 0 or node.exclusive in node.jobs


def _verify_dependents(state: State) -> None:
    expected: dict[int, dict[int, None]] = {}
    for job in state.jobs.values():
        if job.unmet is None or job.state in ENDED or job.array_id:
            continue
        assert job.unmet, "no open term is no dict"
        # An array whose tasks all started by `aftercorr` keeps the term while the other array lives.
        assert waits(job) or job.array is not None
        dependency = job.submission.dependency
        assert dependency is not None
        for i in job.unmet:
            target = dependency.terms[i].job_id
            if target in state.jobs:
                expected.setdefault(target, {})[job.job_id] = None
    assert state.dependents == expected


def _verify_singletons(state: State) -> None:
    live: dict[tuple[int, str], list[int]] = {}
    for job in state.jobs.values():
        if job.array_id == 0 and job.state not in ENDED:
            live.setdefault(singleton_key(job), []).append(job.job_id)
            if job.unmet and job.submission.dependency is not None:
                terms = job.submission.dependency.terms
                if any(terms[i].kind is DependencyKind.SINGLETON for i in job.unmet):
                    ids = state.singletons[singleton_key(job)]
                    assert ids[0] < job.job_id, "the first of its name waits for nobody"
    for key, ids in state.singletons.items():
        assert ids == sorted(live[key])


def _verify_queues(state: State) -> None:
    times = [ended_at for ended_at, _ in state.ended]
    assert times == sorted(times)
    entries = dict.fromkeys(state.ended)
    for job in state.jobs.values():
        if job.state in ENDED:
            assert (job.end_time, job.job_id) in entries
        elif waits(job):
            if job.spec.deadline:
                assert (latest_start(job.spec), job.job_id) in state.alarms
            if job.eligible_time > state.time and not job.unmet:
                assert (job.eligible_time, job.job_id) in state.begins
        if job.run is not None:
            for fence in job.run.fences.values():
                assert not fence or (fence, job.job_id) in state.alarms
