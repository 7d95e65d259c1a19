"""The forms of output: aligned tables, format strings in Slurm's grammar, JSON, parsable text."""
