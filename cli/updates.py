"""`ccontrol update`: words like `JobId=12 TimeLimit=1:00:00`, in the keys of scontrol(1)."""

from __future__ import annotations

from crane import values
from crane.errors import CraneError, ErrorCode, did_you_mean, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crane.client import Client
    from crane.client.model import Change


def _when(text: str) -> int:
    import time

    from crane.timespec import parse_when

    return parse_when(text, time.time_ns())


def _yes(text: str) -> bool:
    words = {"1": True, "yes": True, "0": False, "no": False}
    if text.lower() not in words:
        raise CraneError(ErrorCode.BAD_VALUE, f"{shown(text)} is neither yes nor no")
    return words[text.lower()]


def _limit(text: str) -> int:
    return values.number(text, 0, values.MAX_TASKS)


JOB_KEYS: dict[str, tuple[str, Callable[[str], object]]] = {
    "timelimit": ("time_limit", values.duration),
    "priority": ("priority", values.priority),
    "nice": ("nice", values.nice),
    "jobname": ("name", values.name),
    "name": ("name", values.name),
    "comment": ("comment", values.text),
    "partition": ("partition", values.name),
    "account": ("account", values.name),
    "qos": ("qos", values.name),
    "starttime": ("begin", _when),
    "eligibletime": ("begin", _when),
    "begintime": ("begin", _when),
    "deadline": ("deadline", _when),
    "requeue": ("requeue", _yes),
    "features": ("features", values.constraint),
    "arraytaskthrottle": ("array_limit", _limit),
    "wckey": ("wckey", values.name),
    "reservationname": ("reservation", values.name),
    "reservation": ("reservation", values.name),
    "extra": ("extra", values.text),
    "dependency": ("dependency", values.after),
}
"""Lower-case key: the field of the request, and the parser of its value."""

_SHOWN = (
    "TimeLimit", "Priority", "Nice", "JobName", "Comment", "Partition", "Account", "QOS",
    "StartTime", "Deadline", "Requeue", "Features", "ArrayTaskThrottle", "WCKey", "Reservation",
    "Extra", "Dependency",
)  # fmt: skip
_NODE_STATES = {
    "drain": "drain", "resume": "resume", "idle": "resume", "undrain": "resume", "down": "down",
    "fail": "fail", "absent": "absent", "power_down": "absent",
}  # fmt: skip


def update(client: Client, words: Sequence[str]) -> tuple[Change, ...]:
    """Carry out one update. Raises USAGE and what the values' parsers raise."""
    pairs = _pairs(words)
    for key, act in (("jobid", _job), ("job", _job), ("nodename", _node), ("node", _node)):
        if key in pairs:
            return act(client, pairs.pop(key), pairs)
    raise CraneError(
        ErrorCode.USAGE,
        "the update names neither a job nor a node",
        "ccontrol update JobId=12 TimeLimit=60, ccontrol update NodeName=n1 State=drain Reason=disk",
    )


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """`Key=value` words; `job 12` and `node n1` too."""
    pairs: dict[str, str] = {}
    rest = list(words)
    while rest:
        key, equals, text = rest.pop(0).partition("=")
        if not equals and rest and key.lower() in {"job", "jobid", "node", "nodename"}:
            text = rest.pop(0)
        elif not equals:
            raise CraneError(ErrorCode.USAGE, f"{shown(key)} has no value", "write Key=value")
        if key.lower() in pairs:
            raise CraneError(ErrorCode.USAGE, f"{shown(key)} is given twice")
        pairs[key.lower()] = text
    return pairs


def _job(client: Client, ids: str, pairs: dict[str, str]) -> tuple[Change, ...]:
    from crane.client.selection import Selection
    from crane.selector import parse

    fields: dict[str, object] = {}
    for key, text in pairs.items():
        if key not in JOB_KEYS:
            raise CraneError(
                ErrorCode.USAGE, f"a job has no {shown(key)} that can be changed",
                did_you_mean(key, _SHOWN) or f"keys: {', '.join(_SHOWN)}",
            )  # fmt: skip
        name, read = JOB_KEYS[key]
        try:
            fields[name] = read(text)
        except CraneError as error:
            raise error.at(key) from None
    if not fields:
        raise CraneError(ErrorCode.USAGE, "nothing to change is given", "TimeLimit=1:00:00")
    return client.update(Selection(ids=parse(ids)), **fields)


def _node(client: Client, names: str, pairs: dict[str, str]) -> tuple[Change, ...]:
    unknown = sorted(pairs.keys() - {"state", "reason"})
    if unknown:
        raise CraneError(
            ErrorCode.USAGE, f"a node has no {shown(unknown[0])} that can be changed",
            did_you_mean(unknown[0], ("State", "Reason")) or "keys: State, Reason",
        )  # fmt: skip
    state = pairs.get("state", "").lower()
    if state not in _NODE_STATES:
        raise CraneError(
            ErrorCode.BAD_VALUE, f"unknown node state {shown(state)}",
            did_you_mean(state, _NODE_STATES) or "write drain, resume, down, fail or absent",
        )  # fmt: skip
    action = _NODE_STATES[state]
    reason = pairs.get("reason", "")
    if action in {"drain", "down", "fail"} and not reason:
        raise CraneError(
            ErrorCode.USAGE, f"State={state} needs a reason", 'add Reason="disk failing"'
        )
    return client.change_nodes(values.hosts(names), action, reason)  # type: ignore[arg-type]
