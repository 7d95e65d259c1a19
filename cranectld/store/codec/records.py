"""Single values in the log's format, for tables that keep them beside plain columns."""

from __future__ import annotations

from typing import NamedTuple

from crane.jobspec import ArraySpec, Dependency, JobSpec, Submission
from crane.log.v1 import log_pb2
from crane.session import NodeShare
from cranectld.store.codec.columns import SPECS
from cranectld.store.codec.mapper import mapper_of
from cranectld.store.codec.submissions import ARRAY, DEPENDENCY

_SHARE = mapper_of(NodeShare, log_pb2.NodeShare.DESCRIPTOR)


def encode_spec(spec: JobSpec) -> bytes:
    """A spec; equal specs give equal bytes."""
    message = log_pb2.JobSpec()
    SPECS.fill(message, spec)
    return message.SerializeToString(deterministic=True)


def decode_spec(body: bytes) -> JobSpec:
    """Inverse of `encode_spec`."""
    spec: JobSpec = SPECS.parse(log_pb2.JobSpec.FromString(body))
    return spec


class Rare(NamedTuple):
    """What only some submissions have."""

    args: tuple[str, ...] = ()
    dependency: Dependency | None = None
    array: ArraySpec | None = None


def encode_rare(job: Submission) -> bytes | None:
    """Arguments, dependency and array of a submission; None if it has none of them."""
    if not job.args and job.dependency is None and job.array is None:
        return None
    message = log_pb2.Submissions.Rare(args=job.args)
    if job.dependency is not None:
        message.dependency.SetInParent()
        DEPENDENCY.fill(message.dependency, job.dependency)
    if job.array is not None:
        message.array.SetInParent()
        ARRAY.fill(message.array, job.array)
    return message.SerializeToString()


def decode_rare(body: bytes | None) -> Rare:
    """Inverse of `encode_rare`."""
    if body is None:
        return Rare()
    message = log_pb2.Submissions.Rare.FromString(body)
    return Rare(
        tuple(message.args),
        DEPENDENCY.parse(message.dependency) if message.HasField("dependency") else None,
        ARRAY.parse(message.array) if message.HasField("array") else None,
    )


def encode_shares(shares: tuple[NodeShare, ...]) -> bytes:
    """Node shares, in order: as the shares of a `Run`."""
    message = log_pb2.Run()
    for share in shares:
        _SHARE.fill(message.shares.add(), share)
    return message.SerializeToString()


def decode_shares(body: bytes) -> tuple[NodeShare, ...]:
    """Inverse of `encode_shares`."""
    return tuple(map(_SHARE.parse, log_pb2.Run.FromString(body).shares))
