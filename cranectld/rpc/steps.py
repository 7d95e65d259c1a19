"""The way of a step that `crun` asks for into the loop.

Log and state keep where its command line and environment are stored, as they do for batch scripts;
the orders to its nodes carry the content.
"""

from __future__ import annotations

from crane.config.model import Limits
from crane.errors import CraneError, ErrorCode
from crane.jobspec import BlobRef
from crane.v1 import agent_pb2 as pb
from crane.wire.steps import argv_to_blob, step_request_from_wire
from cranectld.core.commands import CreateStep, StepGranted
from cranectld.core.identity import Principal
from cranectld.rpc.intake import Intake
from cranectld.rpc.pace import Pace
from cranectld.rpc.requests import bad
from cranectld.shell.loop import Loop

MAX_COMMAND = 1 << 20
"""Bytes of a command line; what the environment leaves of its own limit may be used as well."""
_ANY = BlobRef(1, 0)
"""Stands for any blob in a dry run, which stores none."""


class StepCreator:
    """Turns CreateStep requests into commands."""

    def __init__(self, loop: Loop, intake: Intake) -> None:
        self._loop = loop
        self._intake = intake

    async def create(self, caller: Principal, message: pb.CreateStepRequest) -> StepGranted:
        """Create the step. Raises Rejected, or CraneError (BAD_REQUEST, LIMIT_EXCEEDED, UNAVAILABLE).

        A step that is refused leaves nothing in the store: `crun` asks again and again while the
        CPUs are held by other steps.
        """
        argv, environment = argv_to_blob(message.argv), message.environment
        _check(message, len(argv) + len(environment), self._loop.state.config.limits)
        probe = step_request_from_wire(message, _ANY, _ANY)
        await self._loop.submit(CreateStep(caller, message.job_id, probe, dry_run=True))
        refs = await self._intake.take((argv, environment), Pace())
        request = step_request_from_wire(message, *refs)
        granted: StepGranted = await self._loop.submit(CreateStep(caller, message.job_id, request))
        return granted


def _check(message: pb.CreateStepRequest, size: int, limits: Limits) -> None:
    """What only the bytes tell; `size`: those of command line and environment."""
    if not message.argv:
        raise bad("a step needs a command")
    if any("\0" in argument for argument in message.argv):
        raise bad("a text of the step contains a NUL character", "remove it")
    most = limits.max_environment + MAX_COMMAND
    if size > most:
        raise CraneError(
            ErrorCode.LIMIT_EXCEEDED,
            f"command and environment are {size} bytes, the limit is {most}",
            "put what is large into a file",
        )
