"""Orders wait their turn, each exactly once, in order, and never for long."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from craned.exec.pacing import CROWDED_WINDOW, LEAST, PER_CPU, WINDOW, Crowd, Pacer


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 4), st.lists(st.sampled_from("aaedc.-"), max_size=80))
def test_no_more_than_a_few_start_at_once_and_nobody_is_passed_over(cpus, events):
    crowded = False
    pacer, now, number = Pacer(cpus, lambda: crowded), 0.0, 0
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
        elif event == "c":
            crowded = not crowded
        elif event in ".-":
            now += WINDOW / 3 if event == "." else CROWDED_WINDOW / 3
        elif event == "d":
            if waiting and len(starting) >= most:
                window = CROWDED_WINDOW if crowded else WINDOW
                starting = {k: t for k, t in starting.items() if now - t < window}
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


def test_even_a_crowded_host_starts_what_waits():
    pacer = Pacer(1, lambda: True)
    for number in range(LEAST + 1):
        pacer.wait(b"%d" % number, b"order", 0)
    for _ in range(LEAST):
        key = pacer.next(0.0)
        assert key is not None
        pacer.take(key)
        pacer.begun(key, 0.0)

    assert pacer.next(CROWDED_WINDOW * 0.99) is None
    assert pacer.next(CROWDED_WINDOW) == b"%d" % LEAST


def test_the_count_of_runnable_tasks_is_read_from_the_kernel():
    assert Crowd(-1)()  # it takes nobody to crowd a host without CPUs
    assert not Crowd(1 << 20)()
