"""Orders wait their turn, each exactly once, in order, and never for long."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from craned.exec.pacing import LEAST, PER_CPU, WINDOW, Pacer


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 4), st.lists(st.sampled_from("aed."), max_size=80))
def test_no_more_than_a_few_start_at_once_and_nobody_is_passed_over(cpus, events):
    pacer, now, number = Pacer(cpus), 0.0, 0
    most = max(LEAST, PER_CPU * cpus)
    waiting: list[bytes] = []
    starting: dict[bytes, float] = {}
    for event in events:
        if event == "a":
            number += 1
            waiting.append(b"%d" % number)
            pacer.wait(waiting[-1], b"order", 0)
        elif event == "e" and starting:
            pacer.settled(next(iter(starting)))
            del starting[next(iter(starting))]
        elif event == ".":
            now += WINDOW / 3
        elif event == "d":
            starting = {k: t for k, t in starting.items() if now - t < WINDOW}
            key = pacer.next(now)
            assert key == (waiting[0] if waiting and len(starting) < most else None)
            if key is not None:
                taken = pacer.take(waiting.pop(0))
                assert taken is not None
                assert taken.payload == b"order"
                assert pacer.take(key) is None
                pacer.begun(key, now)
                starting[key] = now
        assert len(pacer) == len(waiting)
