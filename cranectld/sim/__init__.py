"""The simulated shell: seeded clock, network, disk and nodes."""
