"""The table of devices after any history equals one built anew from the state that resulted."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sched_core.layouts import LAYOUTS, full
from sched_core.slots import FREE, KIND, Device, Health, SlotTable
from sched_core.tables import Tables

NODES = ["a", "b", "c"]
DGX = LAYOUTS["dgx1-8"]()
DEVICES: st.SearchStrategy[list[Device]] = st.one_of(
    st.just([]),
    st.builds(
        lambda n, numa: [Device("gpu", "v", numa=numa, layout=DGX, place=i) for i in range(n)],
        st.integers(1, 8),
        st.integers(-1, 1),
    ),
    # Another type beside it, an equal layout of its own, more slots than the table first has.
    st.builds(
        lambda n: [
            Device("gpu", "w", layout=full(4, 2), place=0),
            *(Device("fpga", place=i) for i in range(n)),
        ],
        st.integers(0, 11),
    ),
)


class Fold(RuleBasedStateMachine):
    """Random operations on a table and, plainly, on dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(Tables().nodes)
        self.nodes: dict[str, list[Device]] = {}
        self.jobs: dict[int, list[tuple[str, int, int]]] = {}
        self.next_id = 1

    @rule(name=st.sampled_from(NODES), devices=DEVICES)
    def set_node(self, name: str, devices: list[Device]) -> None:
        self.nodes[name] = devices
        self.table.set(name, devices)

    @precondition(lambda self: any(self.nodes.values()))
    @rule(data=st.data(), health=st.sampled_from(Health))
    def set_health(self, data: st.DataObject, health: Health) -> None:
        name = data.draw(st.sampled_from([n for n in NODES if self.nodes.get(n)]))
        slot = data.draw(st.integers(0, len(self.nodes[name]) - 1))
        old = self.nodes[name][slot]
        new = Device(old.name, old.kind, health, old.numa, old.layout, old.place)
        self.nodes[name] = [*self.nodes[name][:slot], new, *self.nodes[name][slot + 1 :]]
        self.table.set_health(name, slot, health)

    @precondition(lambda self: any(self.nodes.values()))
    @rule(data=st.data(), amount=st.sampled_from([250, 1000]))
    def start(self, data: st.DataObject, amount: int) -> None:
        names = [n for n in NODES if self.nodes.get(n)]
        held = []
        for name in data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)):
            slots = st.integers(0, len(self.nodes[name]) - 1)
            held += [(name, s, amount) for s in data.draw(st.sets(slots, min_size=1))]
        self.jobs[self.next_id] = held
        self._add(self.table, self.next_id)
        self.next_id += 1

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        del self.jobs[job]
        self.table.remove(job)
        self.table.remove(job + 1000)

    def _add(self, table: SlotTable, job: int) -> None:
        rows = [table.nodes.names.find(name) for name, _, _ in self.jobs[job]]
        slots = [slot for _, slot, _ in self.jobs[job]]
        amounts = [amount for _, _, amount in self.jobs[job]]
        table.add(job, np.array(rows), np.array(slots), np.array(amounts))

    @invariant()
    def equals_a_table_built_anew(self) -> None:
        anew = SlotTable(Tables().nodes)
        for name in reversed(NODES):
            anew.set(name, self.nodes.get(name, []))
        for job in sorted(self.jobs, reverse=True):
            self._add(anew, job)
            assert job in self.table
        assert self.table.equals(anew)
        cells = self.table.slots
        taken = sum(amount for held in self.jobs.values() for _, _, amount in held)
        assert cells[FREE].sum() == 1000 * np.count_nonzero(cells[KIND] >= 0) - taken


Fold.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=15)
TestFold = Fold.TestCase
