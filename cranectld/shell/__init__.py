"""The real shell: single-writer loop, clock, timers, planner thread."""
