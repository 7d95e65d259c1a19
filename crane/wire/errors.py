"""Errors on the wire: the codes of `crane.errors` and of `crane.v1` have the same words."""

from __future__ import annotations

from crane.errors import CraneError, ErrorCode
from crane.v1 import types_pb2 as pb


def to_wire(code: str, message: str, hint: str = "") -> pb.Error:
    """An error message; a code the wire does not know travels as INTERNAL."""
    number = pb.ErrorCode.Value(f"ERROR_CODE_{code}") if _known(code) else pb.ERROR_CODE_INTERNAL
    return pb.Error(code=number, message=message, hint=hint)


def from_wire(error: pb.Error) -> CraneError:
    """The exception an error message stands for; a code from a newer peer becomes INTERNAL."""
    name = pb.ErrorCode.Name(error.code) if error.code in pb.ErrorCode.values() else ""
    word = name.removeprefix("ERROR_CODE_")
    code = ErrorCode[word] if word in ErrorCode.__members__ else ErrorCode.INTERNAL
    return CraneError(code, error.message, error.hint)


def _known(code: str) -> bool:
    return f"ERROR_CODE_{code}" in pb.ErrorCode.keys()  # noqa: SIM118 - an enum wrapper, not a dict
