"""The generated messages of crane.v1 under one name, for requests and answers of many jobs."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

from crane.v1 import control_pb2, types_pb2


@cache
def messages() -> SimpleNamespace:
    """Everything of types.proto and control.proto, as attributes."""
    return SimpleNamespace(**vars(types_pb2) | vars(control_pb2))
