"""What was named and is not there: said, and told by the exit status, never an empty table."""

from __future__ import annotations

from cli import command
from crane.errors import EXIT_OK, EXIT_REFUSED, CraneError, ErrorCode, did_you_mean, shown

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crane.client import Client
    from crane.client.model import JobInfo
    from crane.client.selection import Selection


def missing_jobs(tool: str, found: Iterable[JobInfo], selection: Selection, hint: str) -> int:
    """One line for each job that was asked for by id and is not among `found`; the exit status.

    With filters beside the ids nothing is missing: the job may be there and not match.
    """
    if not selection.ids or selection.filtered:
        return EXIT_OK
    known = {number for job in found for number in (job.job_id, job.array_job_id)}
    missing = sorted({item.job_id for item in selection.ids} - known)
    for number in missing:
        command.complain(tool, f"error: there is no job {number}")
    if missing:
        command.complain(tool, f"hint: {hint}")
    return EXIT_REFUSED if missing else EXIT_OK


def check_places(client: Client, partitions: Sequence[str], nodes: Sequence[str]) -> None:
    """Raise UNKNOWN_PARTITION or UNKNOWN_NODE for a name the cluster does not have.

    Asked only when nothing was found: a name that selects something exists.
    """
    if partitions:
        known = [row.name for row in client.partitions()]
        for name in partitions:
            if name not in known:
                raise CraneError(
                    ErrorCode.UNKNOWN_PARTITION,
                    f"there is no partition {shown(name)}",
                    did_you_mean(name, known) or "cinfo lists the partitions",
                )
    if nodes:
        known = [row.name for row in client.nodes()]
        for name in nodes:
            if name not in known:
                raise CraneError(
                    ErrorCode.UNKNOWN_NODE,
                    f"there is no node {shown(name)}",
                    did_you_mean(name, known) or "cinfo -N lists the nodes",
                )
