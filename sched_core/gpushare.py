"""GPU sharing: the node and devices of each of a sequence of pods, nothing ever leaving.

    devices, pods = make_devices(nodes), make_pods(types, weights)
    placed, dropped = place_all(devices, pods, sequence, SharePolicy.FGD, seed=0)

What this answers: how well a placement policy keeps devices usable until the cluster is full (the
inflation experiment of Weng et al., ATC'23).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import numpy as np

from sched_core import gpushare_views as v
from sched_core import jit
from sched_core.columns import Cube, Ints, Matrix, Vector
from sched_core.fragment import take
from sched_core.gpushare_scores import kind_of, score_node
from sched_core.gpushare_views import (
    BEST_FIT,
    COUNT,
    CPU,
    DEVICE,
    KINDS,
    MEMORY,
    MODEL,
    MODELS,
    NONE,
    PLACED_MASK,
    PLACED_NODE,
    RANDOM,
    SCORE,
    SHARE,
    STAMP,
    VERSION,
    WHOLE,
    Devices,
    Pods,
)
from sched_core.jit import entry, inlined, kernel

MODULUS = 2147483647
MULTIPLIER = 48271
"""The minimal standard generator (Park and Miller, CACM 1993): never overflows 63 bits."""
AMOUNT_MAX = 10**8
"""Most CPU (thousandths) and memory (MiB) of a node or a pod; keeps scores within 63 bits."""
STREAM = 65_537
"""Numbers between the streams of two neighbouring seeds."""


class SharePolicy(enum.IntEnum):
    """How a pod's node is chosen; `gpushare_scores` says what each maximises."""

    RANDOM = v.RANDOM
    BEST_FIT = v.BEST_FIT
    DOT_PRODUCT = v.DOT_PRODUCT
    GPU_PACKING = v.GPU_PACKING
    GPU_CLUSTERING = v.GPU_CLUSTERING
    FGD = v.FGD
    """Fragmentation gradient descent in grains, best fit among equals."""
    FGD_TRUNCATED = v.FGD_TRUNCATED
    """As published: a score truncated to 0..100, the first node among equals."""


@kernel
def draw(state: Vector, choices: int) -> int:
    """A number from 0 to `choices` - 1, all as likely; moves the generator on. O(1)."""
    state[0] = state[0] * MULTIPLIER % MODULUS
    return int(state[0] * choices // MODULUS)


@kernel
def fits(devices: Devices, types: Matrix, pod: int, node: int) -> bool:
    """Whether a pod fits on a node: CPU, memory, model, enough devices free enough. O(S)."""
    nodes = devices.nodes
    if nodes[CPU, node] < types[CPU, pod] or nodes[MEMORY, node] < types[MEMORY, pod]:
        return False
    if types[COUNT, pod] == 0:
        return True
    if not (types[MODELS, pod] >> nodes[MODEL, node]) & 1:
        return False
    count = 0
    for d in range(devices.gpus.shape[1]):
        if devices.gpus[node, d] >= types[SHARE, pod]:
            count += 1
    return bool(count >= types[COUNT, pod])


@inlined
def choose_node(
    devices: Devices, pods: Pods, scores: Cube, policy: int, pod: int, state: Vector
) -> int:
    """The node of a pod; -1: it fits nowhere. O(n), and a score for each node changed since.

    RANDOM and BEST_FIT draw among equals, as the published figures of best fit ask for; the others
    take the first. Invariant: DEVICE of the pod's type and the node is in force.
    """
    nodes = devices.nodes
    best, equals = -1, 0
    for node in range(nodes.shape[1]):
        if scores[STAMP, pod, node] != nodes[VERSION, node] + 1:
            scores[STAMP, pod, node] = nodes[VERSION, node] + 1
            scores[DEVICE, pod, node] = NONE
            if fits(devices, pods.types, pod, node):
                scores[SCORE, pod, node] = score_node(devices, pods, policy, pod, node)
                scores[DEVICE, pod, node] = devices.after[0]
        if scores[DEVICE, pod, node] != NONE:
            if best < 0 or scores[SCORE, pod, node] > scores[SCORE, pod, best]:
                best, equals = node, 0
            equals += scores[SCORE, pod, node] == scores[SCORE, pod, best]
    if equals > 1 and policy <= BEST_FIT:
        skip = draw(state, equals)
        score = scores[SCORE, pod, best]
        while skip > 0:
            best += 1
            if scores[DEVICE, pod, best] != NONE and scores[SCORE, pod, best] == score:
                skip -= 1
    return best


@inlined
def random_device(devices: Devices, share: int, node: int, state: Vector) -> int:
    """Any of the devices of a node that have `share` free; there is one. O(S)."""
    gpus = devices.gpus
    hosts = 0
    for d in range(gpus.shape[1]):
        hosts += gpus[node, d] >= share
    skip = draw(state, hosts)
    device = -1
    while skip >= 0:
        device += 1
        skip -= gpus[node, device] >= share
    return device


@entry
def place_sequence(
    devices: Devices,
    pods: Pods,
    scores: Cube,
    sequence: Vector,
    policy: int,
    state: Vector,
    placed: Matrix,
) -> int:
    """Place pods one after another; gives how many fitted nowhere.

    `sequence` [p] holds types, `state` [1] the generator of RANDOM (1 to MODULUS - 1). Writes node
    and devices' set of each pod to `placed` [2, p], changes what is free in `devices`. Invariant:
    nothing free is ever negative. O(p x n), and scores (`score_node`) of the one node that changed
    for each type that follows.
    """
    nodes = devices.nodes
    types = pods.types
    dropped = 0
    for i in range(sequence.shape[0]):
        pod = sequence[i]
        node = choose_node(devices, pods, scores, policy, pod, state)
        placed[PLACED_NODE, i] = node
        placed[PLACED_MASK, i] = 0
        if node < 0:
            dropped += 1
            continue
        count, share = types[COUNT, pod], types[SHARE, pod]
        device = scores[DEVICE, pod, node]
        if policy == RANDOM and count == 1 and share < WHOLE:
            device = random_device(devices, share, node, state)
        if count > 0:
            placed[PLACED_MASK, i] = take(devices.gpus, node, count, share, device, devices.after)
            nodes[KINDS, node] |= kind_of(types, pod)
            for d in range(devices.after.shape[0]):
                devices.gpus[node, d] = devices.after[d]
        nodes[CPU, node] -= types[CPU, pod]
        nodes[MEMORY, node] -= types[MEMORY, pod]
        nodes[VERSION, node] += 1
    return dropped


def score_levels(pods: int) -> list[int]:
    """Least decrease (thousandths x pods) for which 100 x sigmoid(decrease / 1 GPU) is 1, ... 99."""
    return [math.ceil(WHOLE * pods * math.log(s / (100 - s))) for s in range(1, 100)]


def make_devices(nodes: Sequence[tuple[int, int, int, int]]) -> Devices:
    """An idle cluster. Each node: CPU thousandths, memory MiB, devices (0 to 62), model (0 to 62).

    Raises ValueError for numbers out of these ranges.
    """
    for cpu, memory, count, model in nodes:
        if not (0 <= count <= 62 and 0 <= model <= 62):
            raise ValueError("a node has 0 to 62 devices, of a model from 0 to 62")
        if not 0 <= min(cpu, memory) <= max(cpu, memory) <= AMOUNT_MAX:
            raise ValueError(f"a node has 0 to {AMOUNT_MAX} of CPU (thousandths), memory (MiB)")
    columns = np.zeros((v.NODE_COLUMNS, len(nodes)), np.int64)
    columns[:4] = np.array(nodes, np.int64).reshape(-1, 4).T
    gpus = np.zeros((len(nodes), max([1, *(node[2] for node in nodes)])), np.int64)
    gpus[np.arange(gpus.shape[1]) < columns[v.GPUS][:, None]] = WHOLE
    return Devices(columns, gpus, np.zeros(gpus.shape[1], np.int64))


def make_pods(
    types: Sequence[tuple[int, int, int, int, int]], weights: Sequence[int], cover: int = 95
) -> Pods:
    """Types of pods: CPU thousandths, memory MiB, devices, thousandths of each, set of models (-1).

    `weights` says how many pods of each type the workload has. Popular is what, in descending
    number, covers `cover` % of them; memory is ignored in that. Raises ValueError for a share out
    of range or of several devices.
    """
    for cpu, memory, count, share, _ in types:
        if not 0 <= min(cpu, memory) <= max(cpu, memory) <= AMOUNT_MAX:
            raise ValueError(f"a pod asks for 0 to {AMOUNT_MAX} of CPU (thousandths), memory (MiB)")
        if not (0 <= share <= WHOLE and (count > 0) == (share > 0)):
            raise ValueError(f"a pod takes 1 to {WHOLE} thousandths of each device, not {share}")
        if count > 1 and share < WHOLE:
            raise ValueError("a pod shares one device or takes whole ones")
    pods: dict[tuple[int, int, int, int], int] = {}
    for (cpu, _, count, share, models), weight in zip(types, weights, strict=True):
        key = (cpu, share, count, models)
        pods[key] = pods.get(key, 0) + weight
    rows, covered, total = [], 0, sum(weights)
    for key, weight in sorted(pods.items(), key=lambda item: (-item[1], item[0])):
        if 100 * covered >= cover * total:
            break
        covered += weight
        cpu, share, count, models = key
        rows.append((cpu, 0, count, share, models, weight))
    popular = np.array(rows, np.int64).reshape(-1, v.POPULAR_COLUMNS).T
    columns = np.array(types, np.int64).reshape(-1, v.TYPE_COLUMNS).T
    levels = np.array(score_levels(max(covered, 1)), np.int64)
    return Pods(np.ascontiguousarray(columns), np.ascontiguousarray(popular), levels)


def place_all(
    devices: Devices, pods: Pods, sequence: Ints, policy: SharePolicy, seed: int = 0
) -> tuple[Ints, int]:
    """Place pods (`sequence` [p] of types) on `devices`, which change.

    Gives [2, p], each pod's node (-1: dropped) and devices' set, and how many were dropped. `seed`
    >= 0 is heeded by RANDOM and BEST_FIT. Compiles kernels if that has not been done (`compile_kernels`).
    """
    jit.compile_kernels()
    types, nodes = pods.types.shape[1], devices.nodes.shape[1]
    scores = np.zeros((v.SCORE_LAYERS, types, nodes), np.int64)
    placed = np.empty((v.PLACED_ROWS, len(sequence)), np.int64)
    state = np.array([pow(MULTIPLIER, 1000 + STREAM * seed, MODULUS)], np.int64)
    dropped = place_sequence(
        devices, pods, scores, np.ascontiguousarray(sequence), int(policy), state, placed
    )
    return placed, int(dropped)
