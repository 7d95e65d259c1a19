"""GPU sharing: every policy chooses as its definition in fractions does, and never too much."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sched_core import gpushare
from sched_core.gpushare import SharePolicy, make_devices, make_pods, place_all
from sched_core.gpushare_views import CPU, GPUS, MEMORY
from sched_core.oracle_fragment import Node, PodType, model_bits, place, popular_types

SHARES = [100, 250, 300, 460, 500, 700, 1000]


@st.composite
def pod_types(draw: st.DrawFn) -> PodType:
    count = draw(st.sampled_from([0, 1, 1, 1, 2, 4]))
    share = 0 if count == 0 else draw(st.sampled_from(SHARES)) if count == 1 else 1000
    models = draw(st.sampled_from([frozenset(), frozenset(), frozenset({0}), frozenset({1, 2})]))
    cpu = draw(st.integers(0, 8)) * 1000
    return PodType(cpu, draw(st.integers(0, 4)) * 1024, count, share, models)


@st.composite
def clusters(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    node = st.tuples(
        st.integers(0, 16).map(lambda c: c * 1000),
        st.integers(0, 12).map(lambda m: m * 1024),
        st.integers(0, 4),
        st.integers(0, 2),
    )
    return draw(st.lists(node, min_size=1, max_size=5))


@given(
    cluster=clusters(),
    types=st.lists(pod_types(), min_size=1, max_size=5, unique=True),
    policy=st.sampled_from(SharePolicy),
    data=st.data(),
)
@settings(deadline=None, max_examples=150)
def test_every_choice_equals_the_definition(
    cluster: list[tuple[int, int, int, int]],
    types: list[PodType],
    policy: SharePolicy,
    data: st.DataObject,
) -> None:
    weights = [data.draw(st.integers(1, 9)) for _ in types]
    cover = data.draw(st.sampled_from([50, 95, 100]))
    sequence = data.draw(st.lists(st.integers(0, len(types) - 1), max_size=16))
    seed = data.draw(st.integers(0, 5))

    devices = make_devices(cluster)
    rows = [(t.cpu, t.memory, t.count, t.share, model_bits(t)) for t in types]
    pods = make_pods(rows, weights, cover)
    placed, dropped = place_all(devices, pods, np.array(sequence, np.int64), policy, seed)

    nodes = [Node(cpu, memory, [1000] * gpus, model) for cpu, memory, gpus, model in cluster]
    state = pow(gpushare.MULTIPLIER, 1000 + gpushare.STREAM * seed, gpushare.MODULUS)
    popular = popular_types(dict(zip(types, weights, strict=True)), cover)
    wanted = place(nodes, [types[i] for i in sequence], policy.name.lower(), popular, state)
    masks = [sum(1 << d for d in chosen) for _, chosen in wanted]
    assert placed.tolist() == [[node for node, _ in wanted], masks]
    assert dropped == sum(node < 0 for node, _ in wanted)
    assert devices.nodes[CPU].tolist() == [node.cpu for node in nodes]
    assert devices.nodes[MEMORY].tolist() == [node.memory for node in nodes]
    assert [row[:n] for row, n in zip(devices.gpus.tolist(), devices.nodes[GPUS], strict=True)] == [
        node.gpus for node in nodes
    ]
    assert devices.gpus.min() >= 0


def test_fragmentation_gradient_keeps_whole_devices_for_those_who_need_them() -> None:
    """A half goes beside a half, though best fit would rather fill the smaller node."""
    types = [(1000, 0, 1, 500, -1), (1000, 0, 1, 1000, -1)]
    sequence = np.array([0, 0, 1, 1, 1], np.int64)
    for policy in (SharePolicy.FGD, SharePolicy.FGD_TRUNCATED):
        devices = make_devices([(64_000, 0, 2, 0), (64_000, 0, 2, 0)])
        placed, dropped = place_all(devices, make_pods(types, [1, 1]), sequence, policy)
        assert dropped == 0
        assert placed[:, 0].tolist() == placed[:, 1].tolist()


def test_equal_seeds_give_equal_placements_and_others_do_not() -> None:
    pods = make_pods([(100, 0, 1, 100, -1)], [1])
    runs = []
    for seed in (0, 0, 1):
        devices = make_devices([(64_000, 0, 4, 0)] * 8)
        sequence = np.zeros(60, np.int64)
        runs.append(place_all(devices, pods, sequence, SharePolicy.RANDOM, seed)[0].tolist())
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("kind", [(0, 0, 1, 1001, -1), (0, 0, 1, 0, -1), (0, 0, 2, 500, -1)])
def test_impossible_shares_are_refused(kind: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="pod"):
        make_pods([kind], [1])


def test_impossible_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="devices"):
        make_devices([(1000, 0, 63, 0)])
