"""The demonstration: a real cluster on this machine runs real jobs, and everything is checked."""
