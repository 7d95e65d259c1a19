"""The handlers of `crane.v1.Control`, one object for both doors (gRPC and the local socket)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from crane.errors import CraneError
from crane.v1 import control_pb2 as pb
from crane.wire.errors import to_wire
from cranectld.core import commands as cmd
from cranectld.core.commands import Command, Outcome, Rejected
from cranectld.core.contact import ContactBook
from cranectld.core.identity import Principal
from cranectld.rpc.callers import Callers
from cranectld.rpc.explain import add_remedies, explain
from cranectld.rpc.history import History
from cranectld.rpc.listing import Listing, page_size
from cranectld.rpc.pace import Pace
from cranectld.rpc.requests import (
    action_of,
    bad,
    changes_of,
    error_of,
    parse,
    selector_of,
    texts,
    travelling,
    within,
)
from cranectld.rpc.status import Status
from cranectld.rpc.submit import Submitter, past_terms
from cranectld.rpc.views import JobViews, node_info, partition_info
from cranectld.rpc.waiting import Waiting
from cranectld.rpc.watch import Watch
from cranectld.shell.clock import Clock
from cranectld.shell.effects import Links
from cranectld.shell.loop import Loop
from cranectld.shell.planning import Planning

Handler = Callable[[Principal, Any], Awaitable[Message]]

MAX_SIGNAL = 64
MAX_REASON = 1024


class Control:
    """Requests of users, portals and operators. Handlers raise CraneError or Rejected."""

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        planner: Planning | None,
        links: Links,
        contacts: ContactBook,
        callers: Callers,
        submitter: Submitter,
        history: History,
        watch: Watch,
        status: Status,
    ) -> None:
        """`planner` None: nobody plans (tests that commit plans themselves)."""
        self._loop = loop
        self._clock = clock
        self._planner = planner
        self._links = links
        self._contacts = contacts
        self._callers = callers
        self._submitter = submitter
        self._history = history
        self._watch = watch
        self._status = status
        self.unary: dict[str, tuple[type[Message], Handler]] = {
            "SubmitJobs": (pb.SubmitJobsRequest, submitter.submit),
            "CancelJobs": (pb.CancelJobsRequest, self._cancel_jobs),
            "ChangeJobs": (pb.ChangeJobsRequest, self._change_jobs),
            "ListJobs": (pb.ListJobsRequest, self._list_jobs),
            "ExplainJob": (pb.ExplainJobRequest, self._explain_job),
            "ListHistory": (pb.ListHistoryRequest, self._list_history),
            "ListNodes": (pb.ListNodesRequest, self._list_nodes),
            "ListPartitions": (pb.ListPartitionsRequest, self._list_partitions),
            "ChangeNodes": (pb.ChangeNodesRequest, self._change_nodes),
            "Reconfigure": (pb.ReconfigureRequest, self._reconfigure),
            "GetStatus": (pb.GetStatusRequest, self._get_status),
            "IssueToken": (pb.IssueTokenRequest, self._issue_token),
        }
        """Request type and handler by method name; `WatchEvents` is the one stream."""

    async def call(self, method: str, caller: Principal, body: bytes) -> bytes:
        """Serve one request. Raises CraneError with a code that the wire knows."""
        kind, handler = self.unary[method]
        try:
            reply = await handler(caller, parse(kind, body))
        except Rejected as refusal:
            raise error_of(refusal) from None
        except CraneError as error:
            raise travelling(error) from None
        return reply.SerializeToString()

    async def watch(self, _caller: Principal, body: bytes) -> AsyncIterator[bytes]:
        """Serve WatchEvents: everybody sees every job, as with squeue(1)."""
        try:
            async for reply in self._watch.stream(parse(pb.WatchEventsRequest, body)):
                yield reply.SerializeToString()
        except CraneError as error:
            raise travelling(error) from None

    # --- changes ---------------------------------------------------------------------------------

    async def _cancel_jobs(
        self, caller: Principal, request: pb.CancelJobsRequest
    ) -> pb.ChangeReply:
        within("signal", request.signal, MAX_SIGNAL)
        selector = selector_of(request.selector)
        return await self._change(
            cmd.CancelJobs(caller, selector, request.signal, request.batch_only)
        )

    async def _change_jobs(
        self, caller: Principal, request: pb.ChangeJobsRequest
    ) -> pb.ChangeReply:
        selector = selector_of(request.selector)
        kind = request.WhichOneof("change")
        command: Command
        if kind == "hold":
            command = cmd.HoldJobs(caller, selector)
        elif kind == "release":
            command = cmd.ReleaseJobs(caller, selector)
        elif kind == "requeue":
            command = cmd.RequeueJobs(caller, selector, request.requeue.hold)
        elif kind == "update":
            changes = changes_of(request.update)
            wanted = past_terms(self._loop.state, (changes.dependency,))
            past = await self._history.past(wanted) if wanted else ()
            command = cmd.UpdateJobs(caller, selector, changes, past)
        else:
            raise bad("the request says no change", "hold, release, requeue or update")
        return await self._change(command)

    async def _change_nodes(
        self, caller: Principal, request: pb.ChangeNodesRequest
    ) -> pb.ChangeReply:
        names = texts("nodes", request.names)
        within("length of the reason", len(request.reason), MAX_REASON)
        action = action_of(request.action)
        return await self._change(cmd.ChangeNodes(caller, names, action, request.reason))

    async def _change(self, command: Command) -> pb.ChangeReply:
        outcomes: tuple[Outcome, ...] = await self._loop.submit(command)
        reply = pb.ChangeReply()
        for outcome in outcomes:
            result = reply.results.add(subject=outcome.subject)
            if outcome.error is not None:
                error = error_of(outcome.error)
                result.error.CopyFrom(to_wire(error.code.name, error.message, error.hint))
        return reply

    # --- queries ---------------------------------------------------------------------------------

    async def _list_jobs(self, _caller: Principal, request: pb.ListJobsRequest) -> pb.ListJobsReply:
        selector = selector_of(request.selector)
        state, now = self._loop.state, self._clock.now()
        views = JobViews(state, Waiting(self._planner, now), steps=request.steps)
        listing = Listing(state, views, selector, expand=request.expand_arrays)
        seq = state.seq
        rows, token = await listing.page(request.page_token, page_size(request.page_size))
        await self._loop.settled()
        return pb.ListJobsReply(jobs=rows, next_page_token=token, seq=seq, now=now)

    async def _explain_job(
        self, _caller: Principal, request: pb.ExplainJobRequest
    ) -> pb.ExplainJobReply:
        waiting = Waiting(self._planner, self._clock.now())
        reply = await self._loop.read(lambda state: explain(state, waiting, request))
        if request.sooner:
            await add_remedies(reply, self._loop.state, self._planner)
        return reply

    async def _list_history(
        self, _caller: Principal, request: pb.ListHistoryRequest
    ) -> pb.ListHistoryReply:
        selector = selector_of(request.selector)
        return await self._history.page(selector, request)

    async def _list_nodes(
        self, _caller: Principal, request: pb.ListNodesRequest
    ) -> pb.ListNodesReply:
        names = frozenset(texts("nodes", request.names))
        partitions = frozenset(texts("partitions", request.partitions))
        state = self._loop.state
        reply = pb.ListNodesReply(seq=state.seq, now=self._clock.now())
        pace = Pace()
        for name, node in list(state.nodes.items()):
            if (not names or name in names) and (
                not partitions or not partitions.isdisjoint(node.partitions)
            ):
                heard = self._contacts.last_heard(name)
                reply.nodes.append(node_info(node, heard, connected=name in self._links))
            if pace.due:
                await pace.breathe()
        await self._loop.settled()
        return reply

    async def _list_partitions(
        self, _caller: Principal, request: pb.ListPartitionsRequest
    ) -> pb.ListPartitionsReply:
        names = frozenset(texts("partitions", request.names))
        return await self._loop.read(
            lambda state: pb.ListPartitionsReply(
                partitions=[
                    partition_info(state, name)
                    for name in state.partitions
                    if not names or name in names
                ]
            )
        )

    # --- the daemon ------------------------------------------------------------------------------

    async def _reconfigure(
        self, caller: Principal, _request: pb.ReconfigureRequest
    ) -> pb.ReconfigureReply:
        try:
            return pb.ReconfigureReply(changes=await self._status.reconfigure(caller))
        except (Rejected, CraneError) as refused:
            error = error_of(refused) if isinstance(refused, Rejected) else refused
            wire = to_wire("BAD_CONFIG", error.message, error.hint)
            if isinstance(refused, Rejected):
                wire = to_wire(refused.code, refused.message, refused.hint)
            return pb.ReconfigureReply(error=wire)

    async def _get_status(
        self, _caller: Principal, _request: pb.GetStatusRequest
    ) -> pb.GetStatusReply:
        return await self._status.get()

    async def _issue_token(
        self, caller: Principal, request: pb.IssueTokenRequest
    ) -> pb.IssueTokenReply:
        token, expires = self._callers.issue(caller, request.lifetime)
        return pb.IssueTokenReply(token=token, expires=expires)
