"""Codes of verdicts: why a pending record waits. Free of numpy and numba, for mere readers."""

from __future__ import annotations

from enum import IntEnum


class VerdictCode(IntEnum):
    """Outcome of a pass for one pending record. Codes from 16 on are gates, passed through."""

    STARTED = 0
    """All its tasks that may start do start by this plan."""
    PRIORITY = 1
    """Behind the first one of its partition that waits, which goes first; or it would fit now, on
    what is promised to one of another partition."""
    RESOURCES = 2
    """The first of its partition, in queue order, for which what is free now does not suffice; the
    others wait for it."""
    NODE_NOT_AVAIL = 3
    """Nodes that could host it exist, and too many of them are down, drained or failed."""
    NEVER = 4
    """No set of configured nodes could ever host it."""
    NOT_REACHED = 5
    """The pass ended before it: depth, or the bound on starts of one pass."""
    DEPENDENCY = 16
    DEPENDENCY_NEVER_SATISFIED = 17
    HELD_USER = 18
    HELD_ADMIN = 19
    BEGIN_TIME = 20
    ARRAY_LIMIT = 21
    """As many of its tasks run as may run at once."""
    PARTITION_DOWN = 22
    PARTITION_INACTIVE = 23
    PARTITION_TIME_LIMIT = 24
    PARTITION_NODE_LIMIT = 25
    RESERVATION = 26
    LICENSES = 27
    """Fewer licences are free than it asks for; a pass says it too, of the first in turn as well."""
    LIMIT = 28
    """A limit of its user, account or QoS."""
    REQUEUE_HOLD = 29
    DEADLINE = 30
    """It cannot end by its deadline any more, even with its least time limit: it is not started."""


class Placement(IntEnum):
    """Which of the nodes of one weight a start takes first."""

    WEIGHT = 0
    """The order given: as a pass begins, those with the least share of their CPUs free."""
    PACK = 1
    """The fullest: least of it free now, averaged over the dimensions asked for."""
    SPREAD = 2
    """The emptiest, by the same measure."""
    BEST_FIT = 3
    """The tightest: the least left beside one task in the dimension of which the least is left."""
    FGD = 4
    """Where the devices left can still be used by most of those that wait (ATC'23)."""


class MoveCause(IntEnum):
    """Why a pass could not keep the start that the last one promised a record."""

    KEPT = 0
    """It kept it, or there was none."""
    AHEAD = 1
    """A record that is new to the queue, or in it, goes before."""
    NODE = 2
    """A promised node is lost, or no longer what was asked for."""
    RUNNING = 3
    """Running jobs hold more there, or longer, than they said."""
