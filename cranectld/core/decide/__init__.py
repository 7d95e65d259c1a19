"""One module per kind of command: `decide(state, command, now) -> events`."""
