"""Reservations: nodes, or some of what they have, kept from a start to an end for those who may use them.

A reservation is an administrator's; what backfilling promises to a job is a planned start. It has
*instances*: one, or as many as it recurs. Its *members* are the jobs that name it and are allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from sched_core.names import GresAmount

Id = int | str
"""Of a user, an account or a group: whichever the owner of the tables uses, throughout."""

DAY = 86_400
INSTANT_MAX = 1 << 40
"""Latest instant (s) of a reservation."""
AMOUNT_MAX = 1 << 40
"""Most of one resource on a node that may be reserved."""
NODES_MAX = 1 << 20
LIST_MAX = 4096
"""Most names in one list of an ACL."""
NAME_MAX = 255


class Repeat(IntEnum):
    """On which days a reservation recurs, at the time of day at which it first starts."""

    NEVER = 0
    DAILY = 1
    WEEKLY = 2
    WEEKDAY = 3
    """Monday to Friday."""
    WEEKEND = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a job belongs to, as far as reservations ask."""

    user: Id
    account: Id = ""
    groups: frozenset[Id] = frozenset()


@dataclass(frozen=True, slots=True)
class Acl:
    """Who may use a reservation. Without any list: nobody.

    The lists of who may: a job must be of one of the `accounts` if there are any, and of one of the
    `users` or of a member of one of the `groups` if there are any of these. The others shut out
    whoever is in one of them, whatever the first say.
    """

    users: frozenset[Id] = frozenset()
    accounts: frozenset[Id] = frozenset()
    groups: frozenset[Id] = frozenset()
    not_users: frozenset[Id] = frozenset()
    not_accounts: frozenset[Id] = frozenset()
    not_groups: frozenset[Id] = frozenset()

    def __post_init__(self) -> None:
        if any(len(names) > LIST_MAX for names in self._lists()):
            raise ValueError(f"a list of who may use a reservation has more than {LIST_MAX} names")

    def _lists(self) -> tuple[frozenset[Id], ...]:
        may = (self.users, self.accounts, self.groups)
        return (*may, self.not_users, self.not_accounts, self.not_groups)

    def permits(self, who: Principal) -> bool:
        """Whether a job of this principal may use the reservation. O(groups)."""
        if not any(self._lists()):
            return False
        if (
            who.user in self.not_users
            or who.account in self.not_accounts
            or not self.not_groups.isdisjoint(who.groups)
        ):
            return False
        if self.accounts and who.account not in self.accounts:
            return False
        named = who.user in self.users or not self.groups.isdisjoint(who.groups)
        return named or not (self.users or self.groups)


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is kept for whom, when. Raises ValueError for what makes no sense or is out of range.

    Without any amount whole nodes are reserved; else so much on each of them, and never more than a
    node has: of a resource that is not asked for nothing is kept.
    """

    name: str
    start: int
    """First second (s) of the first instance."""
    end: int
    """First second (s) after it."""
    nodes: tuple[str, ...]
    acl: Acl = field(default_factory=Acl)
    cpu: int = 0
    """Thousandths on each node."""
    memory: int = 0
    """MiB on each node."""
    gres: tuple[GresAmount, ...] = ()
    """Of each node."""
    repeat: Repeat = Repeat.NEVER
    until: int = INSTANT_MAX
    """No instance starts at or after this instant."""
    east: int = 0
    """Seconds by which local time is ahead of UTC: what is a weekday is asked there."""
    maintenance: bool = False
    """Whole nodes, for no job at all; jobs that run there are left alone."""
    overlap: bool = False
    """It may be made, and others may be made, where the nodes have not enough for both."""
    overrun: bool = False
    """Members may run beyond its end where that disturbs nobody."""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= NAME_MAX or "\0" in self.name:
            raise ValueError(f"a reservation needs a name of 1 to {NAME_MAX} characters")
        said = f"reservation {self.name}"
        if not 0 <= self.start < self.end <= INSTANT_MAX:
            raise ValueError(f"{said}: its end must be after its start, both 0..{INSTANT_MAX} s")
        if not 0 < len(self.nodes) <= NODES_MAX or len(set(self.nodes)) < len(self.nodes):
            raise ValueError(f"{said}: name 1 to {NODES_MAX} nodes, none of them twice")
        amounts = [self.cpu, self.memory, *(count for _, _, count in self.gres)]
        if any(not 0 <= amount <= AMOUNT_MAX for amount in amounts):
            raise ValueError(f"{said}: amounts must be 0..{AMOUNT_MAX}, not {amounts}")
        if self.gres and not any(amounts):
            raise ValueError(f"{said}: it asks for none of any resource; leave them out for all")
        if self.maintenance and not self.whole:
            raise ValueError(f"{said}: maintenance is of whole nodes; leave the amounts out")
        longest = {Repeat.NEVER: INSTANT_MAX, Repeat.WEEKLY: 7 * DAY}.get(self.repeat, DAY)
        if self.end - self.start > longest:
            raise ValueError(f"{said}: each instance would begin before the last one has ended")
        if abs(self.east) >= DAY:
            raise ValueError(f"{said}: local time is less than a day from UTC")
        if next(self.instances(0, INSTANT_MAX), None) is None:
            raise ValueError(f"{said}: it has no instance; its `until` is too early")

    @property
    def whole(self) -> bool:
        """Whether it keeps whole nodes."""
        return not (self.cpu or self.memory or self.gres)

    @property
    def recurs(self) -> bool:
        """Whether it has more than one instance."""
        return self.repeat != Repeat.NEVER

    def instances(self, since: int, before: int) -> Iterator[tuple[int, int]]:
        """Start and end of its instances that end after `since` and start before `before`, rising.

        O(1) to reach the first, O(1) each.
        """
        length = self.end - self.start
        if not self.recurs:
            if self.end > since and self.start < min(before, self.until):
                yield self.start, self.end
            return
        step = 7 * DAY if self.repeat == Repeat.WEEKLY else DAY
        skipped = max(since - self.end, 0) // step
        start = self.start + skipped * step
        while start < min(before, self.until):
            if start + length > since and self._on(start):
                yield start, start + length
            start += step

    def _on(self, start: int) -> bool:
        """Whether an instance may begin on the day of an instant."""
        weekday = ((start + self.east) // DAY + 3) % 7  # the epoch was a Thursday; Monday is 0
        if self.repeat == Repeat.WEEKDAY:
            return weekday < 5
        return self.repeat != Repeat.WEEKEND or weekday >= 5


def meet(one: Reservation, other: Reservation) -> bool:
    """Whether any instance of one is at the same time as one of the other.

    Exact: what recurs does so by the week, so a week and a day from when both have begun is looked
    at, and all of what does not recur. O(instances in a week).
    """
    if not one.recurs or not other.recurs:
        single, many = (one, other) if not one.recurs else (other, one)
        return next(many.instances(single.start, single.end), None) is not None
    since = max(one.start, other.start)
    for start, end in one.instances(since - 8 * DAY, since + 8 * DAY):
        if next(other.instances(start, end), None) is not None:
            return True
    return False
