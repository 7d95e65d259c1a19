"""Durations and instants as users write them, in Slurm's grammar (sbatch(1), --time and --begin).

Durations are whole seconds, UNLIMITED (-1) is a limit that never comes. Instants are nanoseconds
since the epoch; their text is local time unless it carries `Z` or an offset.
"""

from __future__ import annotations

import time

from crane.errors import CraneError, ErrorCode, shown
from crane.jobspec import UNLIMITED

NS = 1_000_000_000
DAY = 86_400
MAX_SECONDS = 36_500 * DAY
"""A hundred years: more is a slip, and its nanoseconds would not fit 64 bits."""

_DURATION_HINT = "write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS or UNLIMITED"
_WHEN_HINT = "write now+2hours, HH:MM, MM/DD, YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS"

_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": DAY, "week": 7 * DAY}
_NAMED_HOURS = {"midnight": 0, "elevenses": 11, "noon": 12, "fika": 15, "teatime": 16}


def _bad(text: str, kind: str, hint: str, why: str = "") -> CraneError:
    tail = f": {why}" if why else ""
    return CraneError(ErrorCode.BAD_TIME, f"invalid {kind} {shown(text)}{tail}", hint)


def parse_duration(text: str) -> int:
    """Seconds of a duration, or UNLIMITED.

    `5` is minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`, `UNLIMITED`, `INFINITE`.
    As in Slurm a field may exceed its usual range (`0:90` is 90 seconds). Raises BAD_TIME.
    """
    if text.upper() in {"UNLIMITED", "INFINITE", "-1"}:
        return UNLIMITED
    days, dash, rest = text.partition("-")
    fields = (rest if dash else text).split(":")
    numbers = fields + ([days] if dash else [])
    if len(fields) > 3 or not all(_number(field) for field in numbers):
        raise _bad(text, "time", _DURATION_HINT)
    values = [int(field) for field in fields]
    if dash:
        hours, minutes, seconds = values + [0] * (3 - len(values))
    elif len(values) == 1:
        hours, minutes, seconds = 0, values[0], 0
    else:
        hours, minutes, seconds = [0] * (3 - len(values)) + values
    total = int(days if dash else 0) * DAY + hours * 3_600 + minutes * 60 + seconds
    if total > MAX_SECONDS:
        raise _bad(text, "time", _DURATION_HINT, "longer than a hundred years")
    return total


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 12


def format_duration(seconds: int, *, full: bool = False) -> str:
    """`5:01`, `1:02:03`, `2-03:04:05`, `UNLIMITED`, as squeue prints elapsed times and limits.

    `full` gives sacct's form, which always has hours: `00:05:01`. Negative values other than
    UNLIMITED (a clock that went back) print as 0.
    """
    if seconds == UNLIMITED:
        return "UNLIMITED"
    days, rest = divmod(max(0, seconds), DAY)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
    if full:
        return f"{hours:02}:{minutes:02}:{rest:02}"
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


def parse_when(text: str, now_ns: int, *, past: bool = False) -> int:
    """Instant (ns) of a date or time text; `now_ns` is what `now` stands for.

    `now`, `now+2hours`, `now-2days`, `today`, `tomorrow`, `midnight`, `noon`, `fika`, `teatime`,
    `HH:MM[:SS][AM|PM]`, `MM/DD[/YY]`, `MMDD[YY]`, `YYYY-MM-DD[THH:MM[:SS]]`, also with `Z` or
    `+HH:MM`. A time of day is the next one (with `past` the last one), a date without a year
    likewise. Raises BAD_TIME.
    """
    word = text.strip().lower()
    if word.startswith("now"):
        return _relative(text, word[3:], now_ns)
    year, month, day, *_ = time.localtime(now_ns // NS)
    if word in {"today", "tomorrow"}:
        return _local(text, year, month, day + (word == "tomorrow"), 0)
    if word[:4].isdigit() and word[4:5] == "-":
        return _iso(text, word)
    if "/" in word or (word.isascii() and word.isdigit() and len(word) in {4, 6}):
        return _date(text, word, (year, month, day), past=past)
    of_day = _time_of_day(text, word)
    found = _local(text, year, month, day, of_day)
    if past and found > now_ns:
        return _local(text, year, month, day - 1, of_day)
    if not past and found < now_ns:
        return _local(text, year, month, day + 1, of_day)
    return found


def _when(text: str, why: str = "") -> CraneError:
    return _bad(text, "date or time", _WHEN_HINT, why)


def _relative(text: str, rest: str, now_ns: int) -> int:
    """`now` and what may follow it: a sign, a count, and a unit (seconds if none)."""
    rest = rest.strip()
    if not rest:
        return now_ns
    sign, rest = rest[0], rest[1:].strip()
    count = rest.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = rest[len(count) :].strip().removesuffix("s") or "second"
    if sign not in "+-" or not _number(count) or unit not in _UNITS:
        raise _when(text)
    seconds = int(count) * _UNITS[unit]
    if seconds > MAX_SECONDS:
        raise _when(text, "further than a hundred years")
    return now_ns + (seconds if sign == "+" else -seconds) * NS


def _time_of_day(text: str, word: str) -> int:
    """Seconds since midnight of `noon`, `HH:MM`, `HH:MM:SS` and either with AM or PM."""
    if word in _NAMED_HOURS:
        return _NAMED_HOURS[word] * 3_600
    half = word[-2:] if word[-2:] in {"am", "pm"} else ""
    fields = word.removesuffix(half).strip().split(":")
    if len(fields) not in {2, 3} or not all(_number(field) for field in fields):
        raise _when(text)
    hour, minute, second = (int(field) for field in [*fields, "0"][:3])
    if half:
        if not 1 <= hour <= 12:
            raise _when(text)
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise _when(text)
    return hour * 3_600 + minute * 60 + second


def _date(text: str, word: str, today: tuple[int, int, int], *, past: bool) -> int:
    """`MM/DD`, `MM/DD/YY`, `MM/DD/YYYY`, `MMDD`, `MMDDYY`: midnight of that day."""
    fields = word.split("/") if "/" in word else [word[i : i + 2] for i in range(0, len(word), 2)]
    if len(fields) not in {2, 3} or not all(_number(field) for field in fields):
        raise _when(text)
    month, day = int(fields[0]), int(fields[1])
    if len(fields) == 3:
        year = int(fields[2]) + (2_000 if len(fields[2]) <= 2 else 0)
    else:
        year = today[0]
        if past and (month, day) > today[1:]:
            year -= 1
        elif not past and (month, day) < today[1:]:
            year += 1
    return _local(text, year, month, day, 0, exact=True)


def _iso(text: str, word: str) -> int:
    """`YYYY-MM-DD`, then perhaps a time after `T`, blank or `-`, then perhaps a zone."""
    fields = word[:10].split("-")
    if len(fields) != 3 or not all(_number(field) for field in fields):
        raise _when(text)
    year, month, day = (int(field) for field in fields)
    rest = word[10:]
    if not rest:
        return _local(text, year, month, day, 0, exact=True)
    if rest[0] not in "t -":
        raise _when(text)
    clock, offset = rest[1:], None
    if clock.endswith("z"):
        clock, offset = clock[:-1], 0
    elif "+" in clock or "-" in clock:
        clock, sign, zone = clock.partition("+" if "+" in clock else "-")
        offset = _time_of_day(text, zone) * (1 if sign == "+" else -1)
    of_day = _time_of_day(text, clock.partition(".")[0])
    if offset is None:
        return _local(text, year, month, day, of_day, exact=True)
    import datetime  # noqa: PLC0415 - rare, and half a millisecond of every command's start

    try:
        midnight = datetime.datetime(year, month, day, tzinfo=datetime.UTC)
    except ValueError:
        raise _when(text, "no such day") from None
    return _ranged(text, int(midnight.timestamp()) + of_day - offset)


def _local(text: str, year: int, month: int, day: int, of_day: int, *, exact: bool = False) -> int:
    """Instant of a local date and seconds since its midnight.

    With `exact` the day must exist; without it `mktime` turns day 32 into the next month's first.
    """
    hour, minute, second = of_day // 3_600, of_day // 60 % 60, of_day % 60
    if exact and not (1969 <= year <= 2242 and 1 <= month <= 12 and 1 <= day <= 31):
        raise _when(text, "no such day")
    try:
        seconds = int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
        back = time.localtime(seconds)
    except (OverflowError, ValueError, OSError):
        raise _when(text, "out of range") from None
    if exact and (back.tm_mon, back.tm_mday) != (month, day):
        raise _when(text, "no such day")
    return _ranged(text, seconds)


def _ranged(text: str, seconds: int) -> int:
    if not -DAY <= seconds < 1 << 33:
        raise _when(text, "out of range")
    return seconds * NS


def format_when(ns: int, *, unset: str = "N/A") -> str:
    """`2026-11-19T21:00:00` in local time, as Slurm prints; `unset` for 0."""
    if ns == 0:
        return unset
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(ns // NS))
