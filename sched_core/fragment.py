"""How much idle GPU is fragmented, and how a placement changes it (Weng et al., ATC'23).

The fragmentation of a node is the expected idle GPU that a pod drawn from the popular types cannot
use: all of it if the pod does not fit there, else what is idle on devices too full for it. Here it
is not divided by the number of pods, so that it stays an integer: thousandths times pods.
"""

from __future__ import annotations

from sched_core.columns import Matrix, Vector
from sched_core.gpushare_views import (
    ANY,
    COUNT,
    CPU,
    MODEL,
    MODELS,
    SHARE,
    UNUSABLE,
    UNUSABLE_AT,
    VERSION,
    WEIGHT,
    Devices,
    Pods,
)
from sched_core.jit import inlined, kernel


@kernel
def unusable(popular: Matrix, free: Vector, cpu: int, model: int) -> int:
    """Idle thousandths (of `free`, with `cpu` thousandths idle) that popular pods cannot use.

    Summed over the popular types, each times its pods. A type without devices uses none, so that
    all is lost on it. O(k x S).
    """
    idle = 0
    for d in range(free.shape[0]):
        idle += free[d]
    if idle == 0:
        return 0
    lost = 0
    for k in range(popular.shape[1]):
        wasted, hosts = 0, 0
        for d in range(free.shape[0]):
            if free[d] >= popular[SHARE, k]:
                hosts += 1
            else:
                wasted += free[d]
        if (
            popular[COUNT, k] == 0
            or hosts < popular[COUNT, k]
            or cpu < popular[CPU, k]
            or not (popular[MODELS, k] >> model) & 1
        ):
            wasted = idle
        lost += wasted * popular[WEIGHT, k]
    return lost


@kernel
def take(gpus: Matrix, node: int, count: int, share: int, device: int, after: Vector) -> int:
    """Write into `after` what is free of a node's devices with a pod on it; gives its devices' set.

    The pod takes `share` of `device`, or, if that is ANY, of each of `count` devices: the fullest
    that fit, equals by number. Precondition: it fits. O(count x S).
    """
    for d in range(after.shape[0]):
        after[d] = gpus[node, d]
    if device != ANY:
        after[device] -= share
        return 1 << device
    mask = 0
    for _ in range(count):
        best = -1
        for d in range(after.shape[0]):
            if (
                not (mask >> d) & 1
                and after[d] >= share
                and (best < 0 or after[d] < gpus[node, best])
            ):
                best = d
        after[best] -= share
        mask |= 1 << best
    return mask


@kernel
def decrease(devices: Devices, pods: Pods, pod: int, node: int, device: int) -> int:
    """By how much fragmentation falls if a pod goes to a node (< 0: it grows). O(k x S).

    Precondition: it fits there, and on `device` unless that is ANY.
    """
    nodes = devices.nodes
    types = pods.types
    if nodes[UNUSABLE_AT, node] != nodes[VERSION, node] + 1:
        take(devices.gpus, node, 0, 0, ANY, devices.after)
        nodes[UNUSABLE, node] = unusable(
            pods.popular, devices.after, nodes[CPU, node], nodes[MODEL, node]
        )
        nodes[UNUSABLE_AT, node] = nodes[VERSION, node] + 1
    take(devices.gpus, node, types[COUNT, pod], types[SHARE, pod], device, devices.after)
    left = nodes[CPU, node] - types[CPU, pod]
    return int(
        nodes[UNUSABLE, node] - unusable(pods.popular, devices.after, left, nodes[MODEL, node])
    )


@inlined
def same_as_before(gpus: Matrix, node: int, device: int) -> bool:
    """Whether a device of lower number has as much free: then it serves a pod as well. O(S)."""
    same = 0
    for d in range(device):
        same += gpus[node, d] == gpus[node, device]
    return same > 0
