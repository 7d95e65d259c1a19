"""The simulated shell: the real cores under a seeded clock, a lossy network and failing machines.

`World(seed)` (world.py) is a whole cluster in one thread; the same seed makes the same history, so
that a failure is found once and replayed for ever: `python -m cranectld.sim --seed N --story`.
Simulated parts are named `Fake...` or `Simulated...`, and nothing outside this package uses them
but tests and benchmarks.
"""
