"""GPU sharing as the papers put it, in fractions, for tests. Imports nothing of this package."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True)
class PodType:
    """CPU thousandths, memory MiB, devices, thousandths of each, models allowed (empty: any)."""

    cpu: int
    memory: int
    count: int
    share: int
    models: frozenset[int] = frozenset()

    @property
    def shared(self) -> bool:
        """Whether the pod takes a part of one device."""
        return self.count == 1 and self.share < 1000

    @property
    def kind(self) -> str:
        """What GPU clustering keeps apart."""
        return "shared" if self.shared else str(self.count)


@dataclass
class Node:
    """What is free of a node."""

    cpu: int
    memory: int
    gpus: list[int]
    model: int
    kinds: set[str] = field(default_factory=set)

    def fits(self, pod: PodType) -> bool:
        """Whether a pod fits."""
        hosts = sum(free >= pod.share for free in self.gpus)
        allowed = not pod.count or not pod.models or self.model in pod.models
        enough = self.cpu >= pod.cpu and self.memory >= pod.memory and hosts >= pod.count
        return allowed and enough

    def with_pod(self, pod: PodType, devices: list[int]) -> Node:
        """The node with a pod on these devices."""
        gpus = [free - pod.share * (d in devices) for d, free in enumerate(self.gpus)]
        kinds = self.kinds | ({pod.kind} if pod.count else set())
        return Node(self.cpu - pod.cpu, self.memory - pod.memory, gpus, self.model, kinds)


def fragmentation(node: Node, popular: dict[PodType, int]) -> Fraction:
    """Expected idle GPU (thousandths) that a popular pod cannot use; `popular` counts pods."""
    expected = Fraction(0)
    for pod, number in popular.items():
        idle = sum(node.gpus)
        fits = node.fits(PodType(pod.cpu, 0, pod.count, pod.share, pod.models))
        if pod.count and fits:
            idle = sum(free for free in node.gpus if free < pod.share)
        expected += Fraction(number, sum(popular.values())) * idle
    return expected


def popular_types(pods: dict[PodType, int], cover: int) -> dict[PodType, int]:
    """The most frequent types, memory set aside, that together are `cover` % of all pods."""
    merged: dict[PodType, int] = {}
    for pod, number in pods.items():
        plain = PodType(pod.cpu, 0, pod.count, pod.share, pod.models)
        merged[plain] = merged.get(plain, 0) + number
    found: dict[PodType, int] = {}
    order = {pod: (pod.cpu, pod.share, pod.count, model_bits(pod)) for pod in merged}
    for pod in sorted(merged, key=lambda pod: (-merged[pod], order[pod])):
        if sum(found.values()) < Fraction(cover, 100) * sum(pods.values()):
            found[pod] = merged[pod]
    return found


def model_bits(pod: PodType) -> int:
    """The set of models as a number; -1: any."""
    return sum(1 << model for model in pod.models) if pod.models else -1


def fullest(node: Node, pod: PodType) -> list[int]:
    """The devices a pod gets where the policy does not care: the fullest that fit."""
    hosts = [d for d, free in enumerate(node.gpus) if free >= pod.share]
    return sorted(sorted(hosts, key=lambda d: (node.gpus[d], d))[: pod.count])


def remainder(node: Node) -> Fraction:
    """What is free, each resource relative to the largest node (128 CPUs, 8 GPUs), in halves."""
    return (Fraction(node.cpu, 128_000) + Fraction(sum(node.gpus), 8000)) / 2


def packing_score(node: Node, pod: PodType) -> int:
    """GPU packing as published."""
    if not pod.count:
        return 0
    unused = sum(free == 1000 for free in node.gpus)
    if unused == len(node.gpus):
        return max(33 - unused, unused)
    fresh = sum(node.gpus[d] == 1000 for d in fullest(node, pod))
    if fresh:
        return max(50 - fresh, 33)
    return max(100 - node.gpus[fullest(node, pod)[0]] * 100 // 1000 // 10, 50)


def clustering_score(node: Node, pod: PodType) -> int:
    """GPU clustering as published."""
    if not pod.count:
        return 0
    used = Fraction(25 * (8000 - sum(node.gpus)), 8000)
    if pod.kind in node.kinds:
        return math.floor(used + (75 if len(node.kinds) == 1 else 50))
    return math.floor(used + (0 if node.kinds else 25))


def rated(
    node: Node, pod: PodType, policy: str, popular: dict[PodType, int]
) -> tuple[tuple[Fraction | int, ...], list[int]]:
    """The best score of a pod on a node it fits on, and the devices with which it is reached."""
    devices = fullest(node, pod)
    after = node.with_pod(pod, devices)
    if policy == "best_fit":
        return (math.floor(100 * (1 - remainder(after))),), devices
    if policy == "dot_product":
        gpu = Fraction(sum(node.gpus), 8000) * Fraction(pod.count * pod.share, 8000)
        product = Fraction(node.cpu, 128_000) * Fraction(pod.cpu, 128_000) + gpu
        return (math.floor(100 * (1 - product / 2)),), devices
    if policy == "gpu_packing":
        return (packing_score(node, pod),), devices
    if policy == "gpu_clustering":
        return (clustering_score(node, pod),), devices
    if policy == "random":
        return (0,), devices
    choices = [devices]
    if pod.shared:
        choices = [[d] for d, free in enumerate(node.gpus) if free >= pod.share]
    best: tuple[tuple[Fraction | int, ...], list[int]] | None = None
    for choice in choices:
        after = node.with_pod(pod, choice)
        fall = fragmentation(node, popular) - fragmentation(after, popular)
        score: tuple[Fraction | int, ...] = (math.floor(fall / 40), -remainder(after))
        if policy == "fgd_truncated":
            score = (min(math.floor(100 / (1 + math.exp(-fall / 1000))), 99),)
        if best is None or score > best[0]:
            best = (score, choice)
    assert best is not None
    return best


def place(
    nodes: list[Node],
    pods: list[PodType],
    policy: str,
    popular: dict[PodType, int],
    state: int,
) -> list[tuple[int, list[int]]]:
    """Node and devices of each pod in turn, (-1, []) if it fits nowhere. Changes `nodes`.

    `state` is the minimal standard generator's (Park and Miller 1993); `random` and `best_fit` draw
    among equals, the other policies take the first.
    """
    placed: list[tuple[int, list[int]]] = []
    for pod in pods:
        rates = {
            i: rated(node, pod, policy, popular) for i, node in enumerate(nodes) if node.fits(pod)
        }
        if not rates:
            placed.append((-1, []))
            continue
        top = max(score for score, _ in rates.values())
        equals = [i for i, (score, _) in rates.items() if score == top]
        chosen = equals[0]
        if policy in {"random", "best_fit"} and len(equals) > 1:
            state = state * 48271 % 2147483647
            chosen = equals[state * len(equals) // 2147483647]
        devices = rates[chosen][1]
        if policy == "random" and pod.shared:
            hosts = [d for d, free in enumerate(nodes[chosen].gpus) if free >= pod.share]
            state = state * 48271 % 2147483647
            devices = [hosts[state * len(hosts) // 2147483647]]
        nodes[chosen] = nodes[chosen].with_pod(pod, devices)
        placed.append((chosen, devices))
    return placed
