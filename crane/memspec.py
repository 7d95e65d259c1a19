"""Amounts of memory and of CPU as users write them.

Memory is whole MiB, rounded up; a bare number is MiB (sbatch(1), --mem). CPU is whole thousandths,
so that `0.5` is exact.
"""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode, shown

MAX_MIB = 1 << 40
"""One EiB: sums over 100,000 nodes still fit 64 bits."""
MAX_CPUS = 1_000_000_000

_KIB = {"K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30, "P": 1 << 40}
_HINT = "write 512 (MiB), 512M, 4G or 1T"


def parse_mem(text: str) -> int:
    """MiB of `100`, `1G`, `1GB`, `1GiB`, `477M`, `1024K`; rounded up. Raises BAD_MEMORY."""
    body = text.upper().removesuffix("IB").removesuffix("B") if text[:1].isdigit() else text
    if text[-1:] in "bB" and body[-1:] not in _KIB:
        body = text  # `100B` would be bytes to some and MiB to others
    unit = body[-1:] if body[-1:] in _KIB else "M"
    number = body[:-1] if body[-1:] in _KIB else body
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise CraneError(ErrorCode.BAD_MEMORY, f"invalid amount of memory {shown(text)}", _HINT)
    mib = (int(number) * _KIB[unit] + 1023) >> 10
    if mib > MAX_MIB:
        raise CraneError(
            ErrorCode.BAD_MEMORY, f"invalid amount of memory {shown(text)}: over 1 EiB", _HINT
        )
    return mib


def format_mem(mib: int) -> str:
    """`477M`, `4G`, `2T`: the largest unit that is exact; 0 is `0`."""
    if mib <= 0:
        return "0"
    for unit, shift in (("T", 20), ("G", 10)):
        if mib % (1 << shift) == 0:
            return f"{mib >> shift}{unit}"
    return f"{mib}M"


def parse_cpus(text: str) -> int:
    """Thousandths of a CPU of `2`, `0.5`, `1.25`; more than three decimals or 0: BAD_CPUS."""
    whole, dot, part = text.partition(".")
    digits = whole + part
    well_formed = digits.isascii() and digits.isdigit() and bool(whole) and bool(part) == bool(dot)
    if not well_formed or len(part) > 3 or len(whole) > 9:
        raise CraneError(
            ErrorCode.BAD_CPUS, f"invalid number of CPUs {shown(text)}", "write 4 or 0.5"
        )
    value = int(whole) * 1000 + int(part.ljust(3, "0"))
    if not 0 < value <= MAX_CPUS:
        raise CraneError(
            ErrorCode.BAD_CPUS, f"number of CPUs out of range: {shown(text)}", "at least 0.001"
        )
    return value


def format_cpus(thousandths: int) -> str:
    """`4`, `0.5`: without needless zeros."""
    whole, part = divmod(thousandths, 1000)
    return f"{whole}.{part:03}".rstrip("0") if part else str(whole)
