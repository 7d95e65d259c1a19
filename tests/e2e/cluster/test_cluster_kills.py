"""kill -9 at seeded instants and at every fail point: no acknowledged job lost, none run twice.

The short form of `python -m bench kill.controller`, which kills 200 times.
"""

from __future__ import annotations

import pytest

from bench import kills


@pytest.mark.timeout(300)  # starts a dozen controllers, on a machine that may be busy
@pytest.mark.parametrize(
    ("count", "controller_points", "agent_points"),
    [
        (8, (), ()),
        (0, kills.CONTROLLER_POINTS[:3], ()),
        (0, kills.CONTROLLER_POINTS[3:], ()),
        (1, (), kills.AGENT_POINTS),
    ],
    ids=["instants", "log", "messages", "agent"],
)
def test_no_acknowledged_job_is_lost_or_run_twice(count, controller_points, agent_points):
    found = kills.measure(count, controller_points, agent_points)
    assert found.acknowledged > 0
    assert (found.lost, found.run_twice) == ([], [])
    assert found.kills == count
    assert dict(found.hits) == dict.fromkeys((*controller_points, *agent_points), 1)
    # only a step whose shim was killed may end otherwise
    others = found.states.total() - found.states["COMPLETED"]
    assert others <= (2 if agent_points else 0)
