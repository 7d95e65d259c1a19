"""The slow, obvious twin of licences over time: every question counts all bookings."""

from __future__ import annotations

from dataclasses import dataclass, field

Needs = tuple[tuple[str, int], ...]


@dataclass
class Licences:
    """What there is for this cluster, and who has how many of what from when to when."""

    total: dict[str, int] = field(default_factory=dict)
    booked: list[tuple[int, int, Needs]] = field(default_factory=list)

    def free(self, name: str, instant: int) -> int:
        """How many nobody has at an instant."""
        taken = [
            count
            for start, end, needs in self.booked
            for licence, count in needs
            if licence == name and start <= instant < end
        ]
        return self.total.get(name, 0) - sum(taken)

    def lacks(self, needs: Needs, start: int, end: int) -> bool:
        """Whether at some instant of a span fewer are free than asked for."""
        instants = {start, *(t for t in self.instants() if start < t < end)}
        return any(self.free(name, t) < count for name, count in needs for t in instants)

    def short(self, needs: Needs, now: int) -> list[str]:
        """Names of which fewer are free at an instant than asked for."""
        return [name for name, count in needs if self.free(name, now) < count]

    def instants(self) -> set[int]:
        """When something changes."""
        return {t for start, end, _ in self.booked for t in (start, end)}

    def book(self, needs: Needs, start: int, end: int) -> None:
        """They are taken for a span."""
        if needs:
            self.booked.append((start, end, needs))

    def cancel(self, needs: Needs, start: int, end: int) -> None:
        """They are not taken any more."""
        if needs:
            self.booked.remove((start, end, needs))

    def overbooked(self, needs: Needs, start: int, end: int) -> bool:
        """Whether at some instant of a span more are taken, of those asked for, than there are."""
        return self.lacks(tuple((name, 0) for name, _ in needs), start, end)

    def copy(self) -> Licences:
        """Another one that says the same."""
        return Licences(dict(self.total), list(self.booked))
