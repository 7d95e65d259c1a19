"""ExplainJob: the verdict on one waiting job, in numbers and in words."""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode
from crane.states import JobState, Reason
from crane.v1 import control_pb2 as pb
from crane.v1 import types_pb2 as types
from cranectld.core.explain import Survey, gates, sentence
from cranectld.core.feasible import bounds
from cranectld.core.query import task_reason
from cranectld.core.state import State
from cranectld.rpc.views import JobViews
from cranectld.rpc.waiting import Waiting


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
        free = survey.fitting >= reply.nodes_wanted
        reply.gates.add(name="resources", open=free, text="" if free else why.text)
    reply.text = sentence(job, why.reason, survey)
    return reply
