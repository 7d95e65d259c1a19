"""Steps that `crun` asks for, as messages: the request on its way, and the answer."""

from __future__ import annotations

from crane.errors import CraneError
from crane.session import StepKey, StepLayout, StepRequest
from crane.v1 import agent_pb2 as pb
from crane.wire.errors import from_wire, to_wire


def step_request_to_wire(job_id: int, request: StepRequest) -> pb.CreateStepRequest:
    """What `crun` asks for inside a job."""
    return pb.CreateStepRequest(
        job_id=job_id,
        ntasks=request.ntasks,
        min_nodes=request.min_nodes,
        ntasks_per_node=request.ntasks_per_node,
        cpus_per_task=request.cpus_per_task,
        nodelist=request.nodelist,
        exclude=request.exclude,
        name=request.name,
        argv=request.argv,
        environment=request.environment,
        work_dir=request.work_dir,
        endpoint=request.endpoint,
        ticket=request.ticket,
        rendezvous=request.rendezvous,
        overlap=request.overlap,
        stdin_mode=request.stdin_mode,
    )


def step_request_from_wire(message: pb.CreateStepRequest) -> tuple[int, StepRequest]:
    """The job, and what `crun` asks for inside it."""
    return message.job_id, StepRequest(
        ntasks=message.ntasks,
        min_nodes=message.min_nodes,
        ntasks_per_node=message.ntasks_per_node,
        cpus_per_task=message.cpus_per_task,
        nodelist=tuple(message.nodelist),
        exclude=tuple(message.exclude),
        name=message.name,
        argv=tuple(message.argv),
        environment=message.environment,
        work_dir=message.work_dir,
        endpoint=message.endpoint,
        ticket=message.ticket,
        rendezvous=message.rendezvous,
        overlap=message.overlap,
        stdin_mode=message.stdin_mode,
    )


def step_reply_to_wire(key: StepKey, layout: StepLayout) -> pb.CreateStepReply:
    """The step was made, and runs there."""
    return pb.CreateStepReply(
        step=key.step,
        attempt=key.attempt,
        nodes=layout.nodes,
        tasks_per_node=layout.tasks_per_node,
    )


def step_refusal_to_wire(error: CraneError) -> pb.CreateStepReply:
    """The step was refused (also: the signal was)."""
    return pb.CreateStepReply(error=to_wire(error.code.name, error.message, error.hint))


def step_reply_from_wire(job_id: int, message: pb.CreateStepReply) -> tuple[StepKey, StepLayout]:
    """Key and layout of the step made in the job. Raises the CraneError it was refused with."""
    if message.error.code:
        raise from_wire(message.error)
    layout = StepLayout(tuple(message.nodes), tuple(message.tasks_per_node))
    return StepKey(job_id, message.step, message.attempt), layout
