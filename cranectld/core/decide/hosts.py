"""Whether a node that registers is what registered under its name before, and what that proves.

A job may start again only when nothing of it is alive. A reboot proves that, of the host that was
rebooted; another boot or spool under the same name alone does not: an agent that is started with
another spool knows nothing of what its host still runs, and two hosts may be given one name.
"""

from __future__ import annotations

from crane.session import Registration
from cranectld.core.commands import Refusal, Rejected
from cranectld.core.state import Node

_JOBS_NAMED = 8


def is_same_agent(node: Node, given: Registration) -> bool:
    """Whether it is the spool and the boot of before: what ran there runs on, or its end is known."""
    return (node.boot_id, node.spool_id) == (given.boot_id, given.spool_id)


def is_rebooted(node: Node, given: Registration) -> bool:
    """Whether it is the host of before in another boot: no process of before is alive there."""
    same_host = node.spool_id == given.spool_id or (
        node.host_id != "" and node.host_id == given.host_id
    )
    return same_host and node.boot_id != given.boot_id


def check_host(node: Node, given: Registration) -> None:
    """Raise Rejected (CONFLICT) if jobs hold the node and may be alive where it was before."""
    if not node.jobs or is_same_agent(node, given) or is_rebooted(node, given):
        return
    known = list(node.jobs)
    jobs = ", ".join(str(job_id) for job_id in known[:_JOBS_NAMED])
    if len(known) > _JOBS_NAMED:
        jobs += f" and {len(known) - _JOBS_NAMED} more"
    what = "with another spool" if node.boot_id == given.boot_id else "from another host"
    raise Rejected(
        Refusal.CONFLICT,
        f"node {given.node} registers {what}: processes of job {jobs} may be alive where they were"
        " started",
        "start craned there, with the state directory it had before; or, when it is certain that"
        f" nothing of them is alive, as soon as the node is down:"
        f" ccontrol update NodeName={given.node} State=absent",
    )
