"""Which jobs a query or a change is about, and its message."""

from __future__ import annotations

from crane.client import encode
from crane.record import dataclass

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from crane.selector import JobSelector
    from crane.states import JobState


@dataclass(frozen=True, slots=True)
class Selection:
    """Jobs by id, or by filters: all kinds must hold, values of one kind are alternatives.

    An empty selection selects nothing; `all` selects everything one may see or change.
    """

    ids: tuple[JobSelector, ...] = ()
    users: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    qos: tuple[str, ...] = ()
    states: tuple[JobState, ...] = ()
    nodes: tuple[str, ...] = ()
    all: bool = False
    reservations: tuple[str, ...] = ()
    wckeys: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    """By name: jobs that ask for any of them."""

    @property
    def empty(self) -> bool:
        """Whether it selects nothing."""
        return not self.all and not self.ids and not self.filtered

    @property
    def filtered(self) -> bool:
        """Whether it has filters."""
        filters = (
            self.users, self.names, self.partitions, self.accounts, self.qos, self.states,
            self.nodes, self.reservations, self.wckeys, self.licences,
        )  # fmt: skip
        return any(filters)


EVERYTHING = Selection(all=True)


def of_ids(jobs: Iterable[int | str | JobSelector]) -> Selection:
    """Jobs by number (12), by id as one types it (`12_[1-5]`, `12.0`), or by selector."""
    from crane.selector import JobSelector, parse  # noqa: PLC0415 - queries of all need none

    ids: list[JobSelector] = []
    for job in jobs:
        if isinstance(job, JobSelector):
            ids.append(job)
        elif isinstance(job, int):
            ids.append(JobSelector(job))
        else:
            ids += parse(job)
    return Selection(ids=tuple(dict.fromkeys(ids)))


def to_message(pb: Any, selection: Selection) -> Any:
    """The message of a selection."""
    made = pb.JobSelector.Id
    return pb.JobSelector(
        ids=[
            made(job_id=item.job_id, tasks=encode.ranges(pb, item.tasks), step=item.step)
            for item in selection.ids
        ],
        users=list(selection.users),
        names=list(selection.names),
        partitions=list(selection.partitions),
        accounts=list(selection.accounts),
        qos=list(selection.qos),
        states=[int(state) for state in selection.states],
        nodes=list(selection.nodes),
        reservations=list(selection.reservations),
        wckeys=list(selection.wckeys),
        licences=list(selection.licences),
        all=selection.all,
    )
