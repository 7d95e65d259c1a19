"""Tables after any history equal tables built anew from the state that resulted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sched_core.plan import Policy, plan
from sched_core.tables import Request, Tables

NODES = [f"n{i}" for i in range(5)]
REQUESTS = st.builds(
    Request,
    partitions=st.sampled_from([("p",), ("q", "p")]),
    cpu_per_task=st.sampled_from([1000, 2000]),
    gres_per_node=st.sampled_from([(), (("gpu", "a", 1),), (("gpu", "", 1), ("fpga", "", 1))]),
    features=st.sampled_from([(), (("x",),), (("y", "z"), ("x",))]),
    excluded=st.sampled_from([(), ("n1",), ("n9",)]),
    required=st.sampled_from([(), ("n0",)]),
)


class Fold(RuleBasedStateMachine):
    """Random operations on tables and, plainly, on dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = Tables()
        self.nodes: dict[str, dict[str, Any]] = {}
        self.jobs: dict[int, dict[str, Any]] = {}
        self.running: dict[int, tuple[int, str, int]] = {}
        self.next_id = 1

    @rule(
        name=st.sampled_from(NODES),
        cpu=st.integers(1, 4),
        gpus=st.sampled_from(["", "a", "b"]),
        features=st.sets(st.sampled_from("xyz")),
        usable=st.booleans(),
        weight=st.integers(1, 2),
        switch=st.sampled_from(["", "s1", "s2"]),
    )
    def set_node(
        self,
        name: str,
        cpu: int,
        gpus: str,
        features: set[str],
        usable: bool,
        weight: int,
        switch: str,
    ) -> None:
        self.nodes[name] = {
            "cpu": cpu * 1000,
            "memory": 100,
            "gres": (("gpu", gpus, 2),) if gpus else (),
            "partitions": ("p", "q") if cpu > 2 else ("p",),
            "features": tuple(sorted(features)),
            "usable": usable,
            "weight": weight,
            "switch": switch,
        }
        self.tables.nodes.set(name, **self.nodes[name])

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def remove_node(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        if any(node == name for _, node, _ in self.running.values()):
            return
        del self.nodes[name]
        self.tables.nodes.remove(name)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), usable=st.booleans())
    def set_usable(self, data: st.DataObject, usable: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        self.nodes[name]["usable"] = usable
        self.tables.nodes.set_usable(name, usable)

    @rule(request=REQUESTS, priority=st.integers(0, 2), count=st.integers(0, 3))
    def submit(self, request: Request, priority: int, count: int) -> None:
        shape = self.tables.shapes.intern(request)
        rest = {"priority": priority, "count": count, "duration": 10, "begin": 0, "gate": 0}
        self.tables.jobs.add(self.next_id, shape, submit=self.next_id, **rest)
        self.jobs[self.next_id] = {"request": request, **rest}
        self.next_id += 1

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=20))
    def submit_many(self, requests: list[Request]) -> None:
        ids = list(range(self.next_id, self.next_id + len(requests)))
        shapes = [self.tables.shapes.intern(request) for request in requests]
        order = np.array(ids, np.int64)
        self.tables.jobs.add_many(ids, shapes, duration=10, submit=order, priority=1)
        for job_id, request in zip(ids, requests, strict=True):
            rest = {"priority": 1, "count": 1, "duration": 10, "begin": 0, "gate": 0}
            self.jobs[job_id] = {"request": request, **rest}
        self.next_id += len(requests)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), gate=st.sampled_from([0, 18]), request=REQUESTS)
    def change(self, data: st.DataObject, gate: int, request: Request) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        self.jobs[job_id] |= {"gate": gate, "priority": gate, "request": request}
        self.tables.jobs.update(job_id, gate=gate, priority=gate)
        self.tables.jobs.set_shape(job_id, self.tables.shapes.intern(request))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        del self.jobs[job_id]
        self.tables.jobs.remove(job_id)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), end=st.integers(1, 99), cpu=st.integers(1, 3))
    def start(self, data: st.DataObject, end: int, cpu: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        self.running[self.next_id] = (end, name, cpu * 1000)
        row = self.tables.nodes.names.find(name)
        self.tables.running.add(self.next_id, end, [row], [[cpu * 1000, 5]])
        self.next_id += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.integers(1, 99), stop=st.booleans())
    def end_or_extend(self, data: st.DataObject, end: int, stop: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.running)))
        if stop:
            del self.running[job_id]
            self.tables.running.remove(job_id)
        else:
            self.running[job_id] = (end, *self.running[job_id][1:])
            self.tables.running.set_end(job_id, end)

    def rebuilt(self) -> Tables:
        tables = Tables()
        for name in sorted(self.nodes, reverse=True):
            tables.nodes.set(name, **self.nodes[name])
        for job_id in sorted(self.jobs, reverse=True):
            rest = dict(self.jobs[job_id])
            shape = tables.shapes.intern(rest.pop("request"))
            tables.jobs.add(job_id, shape, submit=job_id, **rest)
        for job_id, (end, name, cpu) in self.running.items():
            tables.running.add(job_id, end, [tables.nodes.names.find(name)], [[cpu, 5]])
        return tables

    @invariant()
    def equals_the_tables_built_anew(self) -> None:
        assert self.tables.equals(self.rebuilt())

    @invariant()
    def free_is_capacity_less_what_runs(self) -> None:
        nodes = self.tables.nodes
        for name, node in self.nodes.items():
            row = nodes.names.find(name)
            taken = sum(cpu for _, where, cpu in self.running.values() if where == name)
            assert nodes.free[row, 0] == node["cpu"] - taken
            assert nodes.allocations[row] == sum(w == name for _, w, _ in self.running.values())

    @invariant()
    def the_queue_is_in_order(self) -> None:
        jobs = self.tables.jobs
        expected = sorted(self.jobs, key=lambda i: (-self.jobs[i]["priority"], i))
        assert jobs.id[jobs.order()].tolist() == expected


TestFold = Fold.TestCase
TestFold.settings = settings(deadline=None, max_examples=25, stateful_step_count=25)


def test_tables_differ_when_anything_differs() -> None:
    def built(cpu: int = 1000, end: int = 5, priority: int = 0) -> Tables:
        tables = Tables()
        row = tables.nodes.set("n", cpu=cpu, memory=1, partitions=("p",))
        shape = tables.shapes.intern(Request(partitions=("p",), cpu_per_task=1000))
        tables.jobs.add(1, shape, duration=1, submit=1, priority=priority)
        tables.running.add(2, end, [row], [[500, 0]])
        return tables

    assert built().equals(built())
    assert not built().equals(built(cpu=2000))
    assert not built().equals(built(end=6))
    assert not built().equals(built(priority=1))


def test_many_names_widen_the_columns() -> None:
    """More than 63 partitions and features, more than four dimensions, more than 16 rows."""
    tables = Tables()
    for i in range(200):
        tables.nodes.set(
            f"n{i}",
            cpu=1000,
            memory=10,
            gres=((f"g{i % 9}", f"t{i % 3}", 1),),
            partitions=(f"p{i}",),
            features=(f"f{i}",),
        )
    for i in range(200):
        request = Request(
            partitions=(f"p{i}",), cpu_per_task=1000, features=(("none",), (f"f{i}",))
        )
        tables.jobs.add(i, tables.shapes.intern(request), duration=1, submit=i)
    made = plan(tables.nodes, tables.shapes, tables.jobs, tables.running, Policy(), 0)
    assert made.starts == 200
    assert made.node.tolist() == list(range(200))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"partitions": ()}, "at least one partition"),
        ({"cpu_per_task": 0}, "needs CPU"),
        ({"ntasks": -1}, "counts must be"),
        ({"memory_per_node": -5}, "amounts must be"),
        ({"features": (("a",),) * 257}, "alternatives"),
    ],
)
def test_a_request_out_of_range_is_refused(bad: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"partitions": ("p",), "cpu_per_task": 1000}
    with pytest.raises(ValueError, match=message):
        Request(**(good | bad))
