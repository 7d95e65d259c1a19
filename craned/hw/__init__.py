"""What the host has: CPUs, memory, device slots."""
