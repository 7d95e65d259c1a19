"""How the devices of a node are linked, as data: weights of pairs, legal sets, preferences.

A `Layout` is what the configuration or an agent says of one board; a new vendor or a measured board
is another value, never another branch in the code. `LAYOUTS` names the common ones.

Weights follow one scale, that of go-gpuallocator (NVIDIA, Apache-2.0): the way through the host is
worth 10 (between sockets) to 50 (one PCIe switch), and each direct link adds 100. Only the order of
sums of weights matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

CROSS_SOCKET = 10
SAME_SOCKET = 30
SAME_SWITCH = 50
LINK = 100
PLACES_MAX = 62
"""Places of a layout: a set of them is the bits of one non-negative int64."""
WEIGHT_MAX = 1 << 20

Weights = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of a board, the link between each two of them, and which sets a job may have.

    A place is the position on the board (OAM module id, logical id), which drivers may number
    otherwise. Raises ValueError for what cannot be a layout. O(places² + sets).
    """

    weights: Weights
    """[P][P] symmetric, 0 on the diagonal, 0..WEIGHT_MAX; higher is closer."""
    counts: tuple[int, ...] = ()
    """Numbers of devices a job may have on a node; empty: any."""
    sets: tuple[int, ...] = ()
    """Bit masks of places. A count that occurs among them may have only these sets, others any."""
    groups: tuple[int, ...] = ()
    """Bit masks of places that belong together (a ring, a card, a half of the board); disjoint."""
    prefer: tuple[tuple[int, ...], ...] = ()
    """`prefer[taken - 1][free - 1]`: rank of taking so many of a group with so many free places;
    lower is better. Ranks decide between listed sets of equal links; they add up over groups."""

    def __post_init__(self) -> None:
        n = len(self.weights)
        if not 1 <= n <= PLACES_MAX:
            raise ValueError(f"a layout has 1 to {PLACES_MAX} places, not {n}")
        for i, row in enumerate(self.weights):
            if len(row) != n or row[i] != 0:
                raise ValueError("link weights must be a square with 0 on its diagonal")
            for j, weight in enumerate(row):
                if not 0 <= weight <= WEIGHT_MAX or weight != self.weights[j][i]:
                    raise ValueError(
                        f"weight of places {i} and {j}: must be 0..{WEIGHT_MAX}, the same both ways"
                    )
        if any(not 1 <= count <= n for count in self.counts):
            raise ValueError(f"counts must be 1..{n}, not {self.counts}")
        for mask in (*self.sets, *self.groups):
            if not 0 < mask < 1 << n:
                raise ValueError(f"a set or group must be places below {n}, not the mask {mask}")
        if sum(self.groups) >= 1 << n or sum(mask.bit_count() for mask in self.groups) > n:
            raise ValueError("groups of places must be disjoint")
        widest = max((mask.bit_count() for mask in self.groups), default=0)
        if self.groups and (
            len(self.prefer) < widest or any(len(row) < widest for row in self.prefer)
        ):
            raise ValueError(f"preferences must be given for 1..{widest} devices of a group")
        if any(not 0 <= rank <= WEIGHT_MAX for row in self.prefer for rank in row):
            raise ValueError(f"ranks must be 0..{WEIGHT_MAX}")

    @property
    def places(self) -> int:
        """Number of places."""
        return len(self.weights)


def mask_of(places: Iterable[int]) -> int:
    """The bit mask of some places."""
    return sum(1 << place for place in places)


def weigh(places: int, weight: Callable[[int, int], int]) -> Weights:
    """Symmetric weights from a function of two places, the lower one first."""
    return tuple(
        tuple(0 if i == j else weight(min(i, j), max(i, j)) for j in range(places))
        for i in range(places)
    )


def full(places: int, links: int = 1) -> Layout:
    """Every pair equally linked: NVSwitch boards, eight MI300X (one xGMI link each), 910B, OAM-FC.

    Any subset is as good as another; NUMA nodes decide.
    """
    return Layout(weigh(places, lambda _i, _j: links * LINK))


def blocks(places: int, size: int) -> Layout:
    """Blocks of `size` neighbours fully linked, the host between blocks: UB pairs, 4-card meshes."""
    return Layout(weigh(places, lambda i, j: LINK if i // size == j // size else CROSS_SOCKET))


def _host(i: int, j: int) -> int:
    """Eight devices: two to a PCIe switch, four to a socket."""
    if i // 2 == j // 2:
        return SAME_SWITCH
    return SAME_SOCKET if i // 4 == j // 4 else CROSS_SOCKET


def pcie8() -> Layout:
    """Eight cards without links of their own, two to a PCIe switch, four to a socket."""
    return Layout(weigh(8, _host))


def hybrid_cube_mesh() -> Layout:
    """Eight modules with six links each: DGX-1 with V100; OAM boards with six ports are of its kind.

    Source: NVIDIA DGX-1 whitepaper, link table as in go-gpuallocator (Apache-2.0).
    """
    double = ["03", "04", "12", "15", "23", "47", "56", "67"]
    single = ["01", "02", "13", "26", "37", "45", "46", "57"]
    links = {**dict.fromkeys(double, 2), **dict.fromkeys(single, 1)}
    return Layout(weigh(8, lambda i, j: _host(i, j) + LINK * links.get(f"{i}{j}", 0)))


def quads_with_rungs() -> Layout:
    """Two full quads, each place linked to its opposite: Kunlunxin P800.

    1, 2, 4 or 8 devices; two must be linked, four must be one of eight sets. Source: HAMi's
    Kunlunxin topology (Apache-2.0).
    """
    weights = weigh(8, lambda i, j: LINK if i // 4 == j // 4 or j - i == 4 else CROSS_SOCKET)
    pairs = [mask_of(p) for p in combinations(range(8), 2) if weights[p[0]][p[1]] == LINK]
    fours = ["0123", "4567", "0145", "2367", "0246", "1357", "0347", "1256"]
    sets = [*pairs, *(mask_of(int(place) for place in four) for four in fours)]
    return Layout(weights, counts=(1, 2, 4, 8), sets=tuple(sets))


def two_rings() -> Layout:
    """Ascend 910 (Atlas 800 9000/9010): two HCCS rings of four, nothing across but the host.

    1, 2 or 4 devices inside one ring, or all 8. The ring is chosen by how many of it are free: for
    one device 1, 3, 2, 4; for two 2, 4, 3. Source: MindCluster affinity scheduling (Apache-2.0).
    """
    rings = (mask_of(range(4)), mask_of(range(4, 8)))
    inside = [
        mask_of(places)
        for start in (0, 4)
        for count in (1, 2, 4)
        for places in combinations(range(start, start + 4), count)
    ]
    prefer = ((0, 2, 1, 3), (4, 0, 2, 1), (4, 4, 4, 4), (4, 4, 4, 0))
    weights = blocks(8, 4).weights
    return Layout(weights, (1, 2, 4, 8), (*inside, mask_of(range(8))), rings, prefer)


def two_halves() -> Layout:
    """Ascend A2 box of 16: two groups of eight. 1-8 devices inside one group, the fuller one first.

    10, 12 and 14 take the same positions of both, 16 all. Source: MindCluster (Apache-2.0).
    """
    halves = (mask_of(range(8)), mask_of(range(8, 16)))
    low = [mask_of(p) for count in range(1, 9) for p in combinations(range(8), count)]
    both = [mask | mask << 8 for mask in low if mask.bit_count() >= 5]
    prefer = tuple(tuple(max(free - taken, 0) for free in range(1, 9)) for taken in range(1, 9))
    counts = (*range(1, 9), 10, 12, 14, 16)
    sets = (*low, *(mask << 8 for mask in low), *both)
    return Layout(blocks(16, 8).weights, counts, sets, halves, prefer)


def cards_of_two() -> Layout:
    """Ascend A3, 16 dies on 8 cards: SIO inside a card, HCCS between cards.

    Even counts take whole cards; a single die takes a card half in use first. Source: MindCluster.
    """
    cards = tuple(0b11 << place for place in range(0, 16, 2))
    whole = [sum(pick) for count in range(1, 9) for pick in combinations(cards, count)]
    weights = weigh(16, lambda i, j: 2 * LINK if i // 2 == j // 2 else LINK)
    single = tuple(1 << place for place in range(16))
    prefer = ((0, 1), (1, 0))
    return Layout(weights, (1, *range(2, 17, 2)), (*single, *whole), cards, prefer)


LAYOUTS: dict[str, Callable[[], Layout]] = {
    "nvswitch-8": lambda: full(8, 18),  # HGX H100: 18 NVLinks a device, all to the switches
    "nvswitch-16": lambda: full(16, 6),  # DGX-2: 6 links a device
    "dgx1-8": hybrid_cube_mesh,
    "pcie-8": pcie8,
    "mi300x-8": lambda: full(8),  # 7 xGMI links a module, one to each other
    "oam-fc-8": lambda: full(8),  # OCP UBB, 7 ports x 8: fully connected
    "oam-hcm-8": hybrid_cube_mesh,  # OCP UBB, 6 ports x 8
    "ascend-910-8": two_rings,
    "ascend-910b-8": lambda: full(8),  # full HCCS mesh; any count, no rule inside a node
    "ascend-910b-16": two_halves,
    "ascend-a3-16": cards_of_two,
    "ub-pairs-8": lambda: blocks(8, 2),  # Ascend 950 cards in pairs
    "ub-quads-8": lambda: blocks(8, 4),  # Ascend 350 and 950 in meshes of four
    "p800-8": quads_with_rungs,
}
"""Named layouts. Functions, for the larger ones hold hundreds of sets."""
