"""Half-life decay on integers: usage is stored as of an epoch, so that nothing is walked to decay.

What was used at `t` counts, at any later `now`, `2^((t - now) / half_life)` of itself. Instead of
shrinking all that is old, what is new is stored larger: an amount used at `t` is kept as `amount x
2^((t - epoch) / half_life)`, and dividing by the same power at `now` gives what it counts then.
Usage at a constant rate is the integral of that; its bounds telescope, so the integers stored do
not depend on where an interval was cut nor on the order of additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

FRACTION = 64
"""Bits after the binary point of `growth`."""
_ONE_OVER_LN2 = 26613026195688644984
"""2^64 / ln 2, rounded down."""


def roots(count: int) -> tuple[int, ...]:
    """2^(1/2), 2^(1/4), 2^(1/8) ..., with 64 bits after the point."""
    found = [isqrt(2 << 2 * FRACTION)]
    while len(found) < count:
        found.append(isqrt(found[-1] << FRACTION))
    return tuple(found)


_ROOTS = roots(48)


def exp2(exponent: int, unit: int) -> int:
    """2^(exponent / unit) with 64 bits after the binary point; `unit` > 0.

    The same integer on every machine. The exponent is taken down to a multiple of 2^-48 and every
    step rounds down: relative error below 2^-47. O(48) multiplications.
    """
    whole, rest = divmod(exponent, unit)
    fraction = (rest << len(_ROOTS)) // unit
    value = 1 << FRACTION
    for i, root in enumerate(_ROOTS, 1):
        if fraction >> (len(_ROOTS) - i) & 1:
            value = value * root >> FRACTION
    return value << whole if whole >= 0 else value >> -whole


@dataclass(frozen=True, slots=True)
class Decay:
    """How usage is forgotten: `half_life` in seconds (0: never), stored as of `epoch` (s).

    Raises ValueError for a negative half-life.
    """

    half_life: int
    epoch: int = 0

    def __post_init__(self) -> None:
        if self.half_life < 0:
            raise ValueError(f"a half-life is 0 (no decay) or more seconds, not {self.half_life}")

    def growth(self, when: int) -> int:
        """Integral of the stored size of one unit a second, up to `when`, but for a constant.

        Usage at rate `r` from `a` to `b` is stored as `r x (growth(b) - growth(a))`. Never falls.
        """
        since = when - self.epoch
        return exp2(since, self.half_life) if self.half_life else since

    def stored(self, amount: int, when: int) -> int:
        """What is stored of an amount (units x seconds) as of `when`: `present` gives it then."""
        if not self.half_life:
            return amount
        return -(-amount * (self.growth(when) << FRACTION) // (self.half_life * _ONE_OVER_LN2))

    def present(self, stored: list[int], now: int) -> list[int]:
        """What stored usage counts at `now`, in units x seconds, rounded down. O(n)."""
        if not self.half_life:
            return stored
        number = self.half_life * _ONE_OVER_LN2
        divisor = self.growth(now) << FRACTION
        return [value * number // divisor for value in stored]
