"""Our `dataclass` against the standard one: what may be observed is the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

import crane.record
from crane.errors import CraneError
from crane.jobspec import JobSpec


def pair(**options):
    """The same class made by ours and by the standard module."""
    made = []
    for module in (crane.record, dataclasses):

        @module.dataclass(**options)
        class Point:
            x: int
            y: int = 2
            z: list = module.field(default_factory=list)

            @property
            def total(self) -> int:
                return self.x + self.y

        made.append(Point)
    return made


@pytest.mark.parametrize(
    "options", [{}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}]
)
def test_instances_behave_the_same(options):
    for cls in pair(**options):
        for round_ in range(40):  # past the point where __init__ is compiled
            point = cls(1, z=[round_])
            assert (point.x, point.y, point.z, point.total) == (1, 2, [round_], 3)
            assert point == cls(1, 2, [round_])
            assert point != cls(1, 3, [round_])
            assert repr(point).endswith(f"Point(x=1, y=2, z=[{round_}])")
        assert cls(5).z is not cls(5).z
        for arguments, keywords in (
            ((), {}),
            ((1, 2, [], 4), {}),
            ((1,), {"x": 1}),
            ((1,), {"w": 1}),
        ):
            with pytest.raises(TypeError):
                cls(*arguments, **keywords)
        assert cls.__match_args__ == ("x", "y", "z")
        assert dataclasses.is_dataclass(cls)
        assert [item.name for item in dataclasses.fields(cls)] == ["x", "y", "z"]
        assert dataclasses.asdict(cls(1)) == {"x": 1, "y": 2, "z": []}
        assert dataclasses.replace(cls(1), y=9) == cls(1, 9)
        assert copy.copy(cls(1)) == cls(1)
        if options.get("frozen"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                cls(1).x = 2
            with pytest.raises(dataclasses.FrozenInstanceError):
                del cls(1).x
        else:
            point = cls(1)
            point.x = 7
            assert point.x == 7
            with pytest.raises(TypeError):
                hash(point)
        if options.get("slots"):
            assert not hasattr(cls(1), "__dict__")


def test_frozen_values_hash_and_replace():
    spec = JobSpec(account="a")

    assert hash(spec) == hash(JobSpec(account="a"))
    assert crane.record.replace(spec, account="b") == JobSpec(account="b")
    assert dataclasses.replace(spec, account="b") == JobSpec(account="b")
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert {spec: 1}[JobSpec(account="a")] == 1


def test_standard_dataclasses_can_extend_ours():
    ours, _ = pair(frozen=True)

    @dataclasses.dataclass(frozen=True)
    class More(ours):
        w: int = 4

    assert More(1, w=5) == More(1, 2, [], 5)


def test_ours_can_extend_ours_and_run_post_init():
    ours, _ = pair()

    @crane.record.dataclass
    class Checked(ours):
        w: int = 4

        def __post_init__(self) -> None:
            if self.w < 0:
                raise CraneError("USAGE", "negative")

    assert Checked(1).w == 4
    for _ in range(40):
        with pytest.raises(CraneError):
            Checked(1, w=-1)
