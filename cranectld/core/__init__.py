"""Pure controller core: decide, apply, react. No clock, no randomness, no I/O."""
