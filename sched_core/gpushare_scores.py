"""What a node is worth to a pod under each policy of GPU sharing: the highest score wins.

All but FGD as published with the simulator of Weng et al. (ATC'23), whole numbers from 0 to 100, on
the scale of its largest node: 128 CPUs, 8 GPUs. Equals go to the node of the lowest number.
"""

from __future__ import annotations

from sched_core.columns import Matrix, Vector
from sched_core.fragment import decrease, same_as_before
from sched_core.gpushare_views import (
    ANY,
    BEST_FIT,
    COUNT,
    CPU,
    DOT_PRODUCT,
    FGD,
    FGD_TRUNCATED,
    GPU_CLUSTERING,
    GPU_PACKING,
    GPUS,
    KINDS,
    SHARE,
    WEIGHT,
    WHOLE,
    Devices,
    Pods,
)
from sched_core.jit import inlined, kernel

MOST_CPU = 128_000
MOST_GPU = 8 * WHOLE
PER_GPU = MOST_CPU // MOST_GPU
"""Thousandths of CPU that weigh as much as one thousandth of GPU."""
GRAIN = 40
"""Thousandths of GPU: what FGD takes for equal. The published score, truncated to 0..100, is as
coarse where fragmentation hardly changes; an exact comparison packs worse (94.4 % instead of 95.4 %
of the openb GPUs), as it lets differences of no consequence outweigh how full nodes become."""
RANK = 1 << 40
"""More than any remainder (`left_over`): one grain of fragmentation outweighs every remainder."""


@kernel
def idle_gpu(devices: Devices, node: int) -> int:
    """Free thousandths of all devices of a node. O(S)."""
    idle = 0
    for d in range(devices.gpus.shape[1]):
        idle += devices.gpus[node, d]
    return int(idle)


@kernel
def left_over(devices: Devices, types: Matrix, pod: int, node: int) -> int:
    """What a node has left with a pod on it, CPU and GPU on one scale (thousandths of CPU). O(S)."""
    gpu = idle_gpu(devices, node) - types[COUNT, pod] * types[SHARE, pod]
    return int(devices.nodes[CPU, node] - types[CPU, pod] + PER_GPU * gpu)


@inlined
def dot_product(devices: Devices, types: Matrix, pod: int, node: int) -> int:
    """100 less the dot product of what is free and what is asked, each relative to the most. O(S).

    After Grandl et al., SIGCOMM'14 (Tetris); here a small product is better.
    """
    gpu = idle_gpu(devices, node) * types[COUNT, pod] * types[SHARE, pod]
    product = devices.nodes[CPU, node] * types[CPU, pod] + PER_GPU * PER_GPU * gpu
    whole = 2 * MOST_CPU * MOST_CPU
    return int((100 * (whole - product)) // whole)


@inlined
def gpu_packing(devices: Devices, types: Matrix, pod: int, node: int) -> int:
    """Devices in use first (67 to 100), then free ones of a node in use, then an idle node. O(S)."""
    if types[COUNT, pod] == 0:
        return 0
    gpus = devices.gpus
    unused, fullest = 0, WHOLE
    for d in range(gpus.shape[1]):
        if gpus[node, d] == WHOLE:
            unused += 1
        elif types[SHARE, pod] <= gpus[node, d] < fullest:
            fullest = gpus[node, d]
    if unused == devices.nodes[GPUS, node]:
        return int(max(33 - unused, unused))
    if fullest == WHOLE:
        return int(max(50 - types[COUNT, pod], 33))
    return int(max(100 - (fullest * 100 // WHOLE) // 10, 50))


@kernel
def kind_of(types: Matrix, pod: int) -> int:
    """The bit of a pod's kind: 1 for a shared device, else 2 to the number of devices. O(1)."""
    if 0 < types[SHARE, pod] < WHOLE:
        return 1
    return int(1 << types[COUNT, pod])


@inlined
def gpu_clustering(devices: Devices, types: Matrix, pod: int, node: int) -> int:
    """Nodes with pods of this kind only, then with others too, then idle ones, then the rest. O(S).

    After Xiao et al., OSDI'18 (Gandiva).
    """
    if types[COUNT, pod] == 0:
        return 0
    kinds, kind = devices.nodes[KINDS, node], kind_of(types, pod)
    base = 0
    if kinds == kind:
        base = 75
    elif kinds & kind:
        base = 50
    elif kinds == 0:
        base = 25
    return int(base + 25 * (MOST_GPU - idle_gpu(devices, node)) // MOST_GPU)


@kernel
def total_weight(popular: Matrix) -> int:
    """Pods of the popular types, at least 1. O(k)."""
    total = 0
    for k in range(popular.shape[1]):
        total += popular[WEIGHT, k]
    return max(int(total), 1)


@kernel
def level(levels: Vector, value: int) -> int:
    """How many of the ascending `levels` are at most `value`: a score from 0 to 99. O(log)."""
    low, high = 0, levels.shape[0]
    while low < high:
        middle = (low + high) // 2
        if levels[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def gradient(devices: Devices, pods: Pods, policy: int, pod: int, node: int) -> int:
    """The best score of FGD on a node; writes the device it is reached with to `after[0]`.

    FGD_TRUNCATED: as published, 100 x sigmoid(decrease / 1 GPU), truncated. FGD: the decrease in
    grains, and among equals what leaves least behind (best fit). Only shared pods have a choice of
    device; equals go by number. O(k x S) per device that differs.
    """
    types = pods.types
    shared = types[COUNT, pod] == 1 and types[SHARE, pod] < WHOLE
    remainder = left_over(devices, types, pod, node)
    grain = GRAIN * total_weight(pods.popular)
    best, chosen = 0, ANY
    for d in range(devices.gpus.shape[1] if shared else 1):
        if shared and (
            devices.gpus[node, d] < types[SHARE, pod] or same_as_before(devices.gpus, node, d)
        ):
            continue
        fall = decrease(devices, pods, pod, node, d if shared else ANY)
        if policy == FGD_TRUNCATED:
            score = level(pods.levels, fall)
        else:
            score = fall // grain * RANK - remainder
        if chosen == ANY or score > best:
            best = score
            chosen = d if shared else ANY
    devices.after[0] = chosen
    return int(best)


@kernel
def score_node(devices: Devices, pods: Pods, policy: int, pod: int, node: int) -> int:
    """Score of a node a pod fits on; writes the device of a shared pod, or ANY, to `after[0]`.

    O(S); FGD O(k x S²).
    """
    types = pods.types
    devices.after[0] = ANY
    if policy in (FGD, FGD_TRUNCATED):
        return gradient(devices, pods, policy, pod, node)
    if policy == BEST_FIT:
        room = 2 * MOST_CPU
        return int(100 * (room - left_over(devices, types, pod, node)) // room)
    if policy == DOT_PRODUCT:
        return dot_product(devices, types, pod, node)
    if policy == GPU_PACKING:
        return gpu_packing(devices, types, pod, node)
    if policy == GPU_CLUSTERING:
        return gpu_clustering(devices, types, pod, node)
    return 0
