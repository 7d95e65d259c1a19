"""Pure agent state machine. No clock, no randomness, no I/O."""
