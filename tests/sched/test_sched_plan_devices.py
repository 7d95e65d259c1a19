"""Plans with devices: legal sets only, those that brute force chooses; counts and devices agree."""

from __future__ import annotations

import os
import random
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import oracle_gres, plan_devices
from sched_core.codes import VerdictCode
from sched_core.gres import leaf_amounts
from sched_core.layouts import LAYOUTS, Layout, full
from sched_core.memory import Memory
from sched_core.oracle_gres import Slot
from sched_core.plan import Plan, Policy, PolicyKind, plan
from sched_core.plan_devices import agree, legal_counts, release, take
from sched_core.slots import Device, Health, SlotTable
from sched_core.tables import Request, Tables

EXAMPLES = 15 if "NUMBA_DISABLE_JIT" in os.environ else 40
SEEDS = st.integers(0, 2**32)
NOW = 1000
BOARDS: dict[str, Layout | None] = {
    **{name: LAYOUTS[name]() for name in ("ascend-910-8", "p800-8", "ascend-a3-16", "dgx1-8")},
    "full": full(6),
    "none": None,
}
RULED = ("ascend-910-8", "p800-8", "ascend-a3-16")
KINDS = st.sampled_from([*PolicyKind])


class Site:
    """Nodes with boards, some devices held or sick, told to the tables and to the oracle."""

    def __init__(self, seed: int, boards: tuple[str, ...] = tuple(BOARDS)) -> None:
        self.rng = rng = random.Random(seed)
        self.tables = Tables()
        self.slots = SlotTable(self.tables.nodes)
        self.devices: dict[int, list[Device]] = {}
        self.durations: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        for i in range(rng.randint(1, 3)):
            self._add_node(f"n{i}", rng.choice(boards))
        for job_id in range(rng.randint(0, 6)):
            self.submit(job_id, self.request(small=True))
        made = self.plan(PolicyKind.FIFO)
        self.fold(made)
        for job_id in self.durations:
            if job_id not in made.start_job:
                self.tables.jobs.remove(job_id)
        for job_id in made.start_job.tolist():
            if rng.random() < 0.4:
                release(self.tables.running, self.slots, job_id)
        for row, devices in self.devices.items():
            for slot in range(len(devices)):
                if rng.random() < 0.1:
                    self.set_health(row, slot, rng.choice([*Health]))

    def _add_node(self, name: str, board: str) -> None:
        layout = BOARDS[board]
        count = layout.places if layout else 3
        kind = "" if board == "none" else "npu" if board in RULED else "v"
        devices = [
            Device("dev", kind, numa=i // 4 - 1, layout=layout, place=i) for i in range(count)
        ]
        if self.rng.random() < 0.3:
            devices.append(Device("dev", "w"))
        gres = [("dev", kind, count)] + [("dev", "w", 1)] * (len(devices) > count)
        row = self.tables.nodes.set(
            name, cpu=20_000, memory=100, gres=(*gres, ("fpga", "", 2)), partitions=("p",)
        )
        self.slots.set(name, devices)
        self.devices[row] = devices

    def set_health(self, row: int, slot: int, health: Health) -> None:
        old = self.devices[row][slot]
        self.devices[row][slot] = Device(
            old.name, old.kind, health, old.numa, old.layout, old.place
        )
        self.slots.set_health(self.tables.nodes.names.text(row), slot, health)

    def request(self, small: bool = False) -> Request:
        rng = self.rng
        count = rng.choice([1, 1, 2, 3] if small else [1, 1, 2, 2, 3, 4, 4, 6, 8])
        kind = rng.choice(["npu", "npu", "npu", "v", "", "w"])
        some = (("dev", kind, count),)
        by_task = rng.random() < 0.25
        return Request(
            partitions=("p",),
            cpu_per_task=500,
            gres_per_node=() if by_task or rng.random() < 0.1 else some,
            gres_per_task=some if by_task else (),
            ntasks=rng.randint(1, 3) if by_task else 0,
            min_nodes=rng.choice([0, 0, 0, 2]),
            exclusive=rng.random() < 0.08,
        )

    def submit(self, job_id: int, request: Request) -> None:
        duration = self.rng.choice([5, 10, 30])
        self.durations[job_id] = duration
        t = self.tables
        t.jobs.add(job_id, t.shapes.intern(request), duration=duration, submit=job_id)

    def plan(self, kind: PolicyKind, memory: Memory | None = None, told: bool = True) -> Plan:
        t = self.tables
        slots = self.slots if told else None
        policy = Policy(kind=kind)
        return plan(t.nodes, t.shapes, t.jobs, t.running, policy, NOW, memory=memory, slots=slots)

    def fold(self, made: Plan) -> None:
        for i, job_id in enumerate(made.start_job.tolist()):
            end = NOW + self.durations[job_id]
            self.ends[job_id] = end
            take(self.tables.running, self.slots, made, i, job_id, end)
            self.tables.jobs.remove(job_id)

    def twins(self) -> dict[int, tuple[list[Slot], dict[str, Layout | None]]]:
        """What is free of every node, for the oracle; kinds are names of dimensions."""
        out = {}
        for row, devices in self.devices.items():
            kinds = [f"gres/dev:{d.kind}" if d.kind else "gres/dev" for d in devices]
            free = self.slots.slots[0, row].tolist()
            slots = [
                Slot(kind, d.place, free[i], d.health == Health.HEALTHY, d.numa)
                for i, (kind, d) in enumerate(zip(kinds, devices, strict=True))
            ]
            out[row] = (slots, {k: d.layout for k, d in zip(kinds, devices, strict=True)})
        return out

    def wanted(self, made: Plan, start: int) -> list[tuple[int, str, int]]:
        """Row, kind and number of the devices a start counts."""
        dims = self.tables.dims
        leaf = leaf_amounts(made.amount, dims.parent)
        names = [dims.name(r) for r in range(len(dims))]
        return [
            (k, name, int(leaf[k, r]))
            for k in range(int(made.start_ptr[start]), int(made.start_ptr[start + 1]))
            for r, name in enumerate(names)
            if leaf[k, r] and name.startswith("gres/dev")
        ]


def crowded(seed: int, boards: tuple[str, ...] = tuple(BOARDS)) -> Site:
    site = Site(seed, boards)
    for job_id in range(100, 100 + site.rng.randint(1, 9)):
        site.submit(job_id, site.request())
    return site


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_every_start_gets_the_set_that_brute_force_chooses(seed: int, kind: PolicyKind) -> None:
    site = crowded(seed)
    twins = site.twins()
    made = site.plan(kind)
    assert len(made.slot_ptr) == len(made.node) + 1
    for i in range(made.starts):
        for k, name, count in site.wanted(made, i):
            node = int(made.node[k])
            slots, layouts = twins[node]
            given_ = made.slot[made.slot_ptr[k] : made.slot_ptr[k + 1]].tolist()
            mine = [slot for slot in given_ if slots[slot].kind == name]
            if (made.amount[k] == site.tables.nodes.capacity[node, : len(made.amount[k])]).all():
                assert mine == [s for s, slot in enumerate(slots) if slot.kind == name]
            else:
                assert mine == oracle_gres.choose(slots, layouts[name], name, 1000 * count)
            for slot in mine:
                assert slots[slot].healthy
                slots[slot].free -= 1000
                assert slots[slot].free == 0
            near = {slots[slot].numa for slot in given_ if slots[slot].numa >= 0}
            assert made.numa[k] == sum(1 << numa for numa in near)
    held = [
        (int(node), int(slot))
        for k, node in enumerate(made.node.tolist())
        for slot in made.slot[made.slot_ptr[k] : made.slot_ptr[k + 1]].tolist()
    ]
    assert len(held) == len(set(held))


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_counts_and_devices_never_disagree(seed: int, kind: PolicyKind) -> None:
    site = crowded(seed)
    assert agree(site.slots)
    site.fold(site.plan(kind))
    assert agree(site.slots)
    for job_id in [job for job in site.ends if job in site.tables.running]:
        if site.rng.random() < 0.5:
            row = site.rng.choice(list(site.devices))
            site.set_health(row, 0, site.rng.choice([*Health]))
            assert agree(site.slots)
            release(site.tables.running, site.slots, job_id)
            assert agree(site.slots)
    for row in site.devices:
        for slot in range(len(site.devices[row])):
            site.set_health(row, slot, Health.HEALTHY)
    for job_id in [job for job in site.ends if job in site.tables.running]:
        release(site.tables.running, site.slots, job_id)
    nodes = site.tables.nodes
    assert (nodes.free == nodes.capacity).all()


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_planning_changes_no_table_and_a_memory_no_plan(seed: int, kind: PolicyKind) -> None:
    site = crowded(seed)
    tables, slots = deepcopy((site.tables, site.slots))
    memory = Memory()
    first = site.plan(kind, memory)
    assert site.tables.equals(tables)
    assert site.slots.equals(slots)
    for again in (site.plan(kind, memory), site.plan(kind)):
        for name in Plan.__dataclass_fields__:
            assert np.array_equal(getattr(again, name), getattr(first, name)), name


@given(seed=SEEDS, kind=KINDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_without_rules_counting_is_exact(seed: int, kind: PolicyKind) -> None:
    """Where any set is legal, the plan is the one that counts."""
    site = crowded(seed, ("dgx1-8", "full", "none"))
    told, counted = site.plan(kind), site.plan(kind, told=False)
    assert len(counted.slot_ptr) == 0
    for name in Plan.__dataclass_fields__:
        if name not in {"slot_ptr", "slot", "numa", "examined"}:
            assert np.array_equal(getattr(told, name), getattr(counted, name)), name


@given(seed=SEEDS, kind=st.sampled_from([PolicyKind.FIFO, PolicyKind.EASY]))
@settings(deadline=None, max_examples=EXAMPLES)
def test_the_first_that_waits_could_not_have_started(seed: int, kind: PolicyKind) -> None:
    site = crowded(seed, RULED)
    made = site.plan(kind)
    first = next((i for i, code in enumerate(made.code.tolist()) if code), -1)
    if first < 0 or made.code[first] != VerdictCode.RESOURCES:
        return
    t, job_id = site.tables, int(made.job[first])
    rows = dict(zip(t.jobs.id[t.jobs.order()].tolist(), t.jobs.order().tolist(), strict=True))
    request = t.shapes.request(int(t.jobs.shape[rows[job_id]]))
    if request.ntasks or request.min_nodes or request.exclusive or not request.gres_per_node:
        return
    ((_, kind_name, count),) = request.gres_per_node
    if not kind_name:
        return
    earlier = [i for i in range(made.starts) if made.start_job[i] < job_id]
    twins = site.twins()
    free = t.nodes.free.copy()
    for i in earlier:
        for k in range(int(made.start_ptr[i]), int(made.start_ptr[i + 1])):
            free[made.node[k], : made.amount.shape[1]] -= made.amount[k]
            for slot in made.slot[made.slot_ptr[k] : made.slot_ptr[k + 1]].tolist():
                twins[int(made.node[k])][0][slot].free = 0
    for row, (slots, layouts) in twins.items():
        name = f"gres/dev:{kind_name}"
        if free[row, 0] >= 500 and name in layouts:
            chosen = oracle_gres.choose(slots, layouts[name], name, 1000 * count)
            assert isinstance(chosen, int), (row, chosen)


def ring_site() -> Site:
    """One Ascend board of two rings, a job on three devices of each."""
    site = Site.__new__(Site)
    site.rng = random.Random(1)
    site.tables = Tables()
    site.slots = SlotTable(site.tables.nodes)
    site.devices, site.durations, site.ends = {}, {}, {}
    layout = BOARDS["ascend-910-8"]
    site.tables.nodes.set("n", cpu=20_000, memory=0, gres=(("dev", "npu", 8),), partitions=("p",))
    site.devices[0] = [Device("dev", "npu", layout=layout, place=i) for i in range(8)]
    site.slots.set("n", site.devices[0])
    return site


def npus(count: int) -> Request:
    return Request(partitions=("p",), cpu_per_task=500, gres_per_node=(("dev", "npu", count),))


@pytest.mark.parametrize("kind", [*PolicyKind])
def test_two_devices_of_two_rings_are_no_pair_until_a_job_ends(kind: PolicyKind) -> None:
    site = ring_site()
    for job_id, (slots, end) in enumerate((([0, 1, 2], 1030), ([4, 5, 6], 1050))):
        site.tables.running.add(job_id, end, [0], [[500, 0, 3, 3]])
        site.slots.add(job_id, np.zeros(3, np.int64), np.array(slots), np.full(3, 1000))
    site.submit(10, npus(2))
    made = site.plan(kind)
    assert made.starts == 0
    assert (made.code[0], made.planned[0]) == (VerdictCode.RESOURCES, 1030)
    assert site.tables.dims.name(int(made.short[0])).startswith("gres/dev")
    site.submit(11, npus(1))
    made = site.plan(kind)
    assert made.start_job.tolist() == ([] if kind == PolicyKind.FIFO else [11])
    release(site.tables.running, site.slots, 0)
    made = site.plan(kind)
    assert made.start_job.tolist() == [10, 11]
    assert made.slot.tolist() in ([0, 1, 2], [0, 1, 7], [2, 3, 7], [0, 1, 3])


def test_what_no_empty_board_can_give_says_never() -> None:
    site = ring_site()
    site.submit(1, npus(3))
    site.submit(2, npus(8))
    made = site.plan(PolicyKind.EASY)
    assert made.code.tolist() == [VerdictCode.NEVER, VerdictCode.STARTED]
    assert made.slot.tolist() == list(range(8))
    assert legal_counts(LAYOUTS["ascend-910-8"](), 0b11111) == [0, 1, 2, 4]


def test_a_sick_device_is_out_of_the_counts_and_a_degraded_one_serves_its_job() -> None:
    site = ring_site()
    site.set_health(0, 0, Health.UNHEALTHY)
    site.submit(1, npus(4))
    site.submit(2, npus(4))
    made = site.plan(PolicyKind.EASY)
    assert made.slot.tolist() == [4, 5, 6, 7]
    site.fold(made)
    site.set_health(0, 5, Health.DEGRADED)
    assert agree(site.slots)
    release(site.tables.running, site.slots, 1)
    assert agree(site.slots)
    assert site.tables.nodes.free[0, 3] == 6


def test_a_start_without_devices_is_left_out_when_the_rounds_are_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_devices, "ROUNDS", 0)
    site = ring_site()
    for slots in ([0, 1, 2], [4, 5, 6]):
        site.tables.running.add(slots[0], 1030, [0], [[500, 0, 3, 3]])
        site.slots.add(slots[0], np.zeros(3, np.int64), np.array(slots), np.full(3, 1000))
    site.submit(10, npus(2))
    made = site.plan(PolicyKind.EASY)
    assert (made.starts, len(made.node), made.start_ptr.tolist()) == (0, 0, [0])
    assert (made.code[0], made.placed[0], made.planned[0]) == (VerdictCode.RESOURCES, 0, -1)
