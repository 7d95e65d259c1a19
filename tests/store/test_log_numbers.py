"""Numbers of fields in the log's format: what once meant something else is not used again."""

from __future__ import annotations

from crane.log.v1 import log_pb2 as log


def test_numbers_of_a_steps_former_fields_stay_unused() -> None:
    fields = {field.number for field in log.StepRequest.DESCRIPTOR.fields}
    assert not fields & {8, 9}


def test_a_step_logged_with_the_former_fields_is_still_read() -> None:
    # field 7: the name; 8: the words of the command; 9: the environment, all three with a length
    former = b"\x3a\x01s" + b"\x42\x04date" + b"\x42\x02-u" + b"\x4a\x06HOME=/"
    read = log.StepRequest.FromString(former)
    assert read.name == "s"
    assert not read.HasField("argv")
    assert not read.HasField("environment")
