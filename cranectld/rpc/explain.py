"""ExplainJob: the verdict on one waiting job, in numbers and in words."""

from __future__ import annotations

import asyncio

from crane.errors import CraneError, ErrorCode
from crane.states import JobState, Reason
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.explain import MOVES, Survey, gates, other_partitions, sentence
from cranectld.core.feasible import bounds
from cranectld.core.query import task_reason
from cranectld.core.state import State
from cranectld.rpc.views import JobViews
from cranectld.rpc.waiting import Waiting
from cranectld.shell.planning import Planning
from sched_core.codes import VerdictCode

PATIENCE = 20.0
"""Seconds for the planner to find out what would make a job start sooner."""
_SECOND = 1_000_000_000


def explain(state: State, waiting: Waiting, request: pb.ExplainJobRequest) -> pb.ExplainJobReply:
    """The reply. Raises CraneError (UNKNOWN_JOB)."""
    job = state.jobs.get(request.job_id)
    if job is None:
        raise CraneError(
            ErrorCode.UNKNOWN_JOB,
            f"job {request.job_id} is not in the queue",
            "cacct knows jobs that ended a while ago",
        )
    views = JobViews(state, waiting, steps=True)
    info, own = views.job(job), Reason.NONE
    if job.array is not None and request.task >= 0:
        position = job.array.places.position_of(request.task)
        if position is None:
            raise CraneError(
                ErrorCode.UNKNOWN_JOB, f"array {request.job_id} has no task {request.task}"
            )
        live = state.jobs.get(job.array.running.get(position, 0))
        own = task_reason(job, position)
        info = views.job(live) if live is not None else views.task(job, position, request.task)
    reply = pb.ExplainJobReply(job=info, reason=info.reason)
    if info.state != JobState.PENDING.value:
        reply.text = f"It does not wait: it is {JobState(info.state).name}."
        return reply
    why = waiting.of(state, job, own)
    reply.reason = types.Reason.ValueType(why.reason)
    for gate in gates(state, job, waiting.now):
        reply.gates.add(name=gate.name, open=gate.open, text=gate.text)
    reply.planned_start = why.planned_start
    reply.planned_earliest = why.earliest
    reply.planned_latest = why.latest
    for term in waiting.terms(job.job_id):
        reply.priority_terms.add(name=term.name, value=term.value)
    reply.nodes_wanted = bounds(job.spec.components[0]).low
    verdict = waiting.verdict(job.job_id)
    survey = None
    if verdict is not None:
        survey = Survey(
            verdict.matching, verdict.usable, verdict.fitting, verdict.short, verdict.ahead
        )
        reply.nodes_matching = survey.matching
        reply.nodes_usable = survey.usable
        reply.nodes_fitting_now = survey.fitting
        reply.short_of = survey.short
        reply.jobs_ahead = survey.ahead
        reply.pass_time = verdict.pass_time
        move, planned = verdict.move, reply.planned_start
        if move is not None and (not planned or planned > move.promised * _SECOND):
            reply.promised_start = move.promised * _SECOND
            reply.moved_cause = MOVES[move.cause]
        if verdict.code == VerdictCode.LIMIT:
            what = verdict.short or "the number of jobs"
            reply.gates.add(name="association", open=False, text=f"a limit on {what} is reached")
        free = survey.fitting >= reply.nodes_wanted
        reply.gates.add(name="resources", open=free, text="" if free else why.text)
    reply.text = sentence(job, why.reason, survey)
    return reply


async def add_remedies(reply: pb.ExplainJobReply, state: State, planner: Planning | None) -> None:
    """Ask the planner what would make the job start sooner; without an answer nothing is added."""
    number = reply.job.array_job_id or reply.job.job_id
    job = state.jobs.get(number)
    if job is None or planner is None or not planner.ready:
        return
    if reply.job.state != JobState.PENDING.value:
        return
    asked = asyncio.wrap_future(planner.sooner(number, other_partitions(state, job)))
    try:
        found = await asyncio.wait_for(asked, PATIENCE)
    except (TimeoutError, asyncio.CancelledError):
        return
    for remedy in found:
        reply.remedies.add(
            time_limit=remedy.limit,
            nodes=remedy.nodes,
            partition=remedy.partition,
            start=remedy.start * _SECOND,
        )
    reply.sooner_known = True
