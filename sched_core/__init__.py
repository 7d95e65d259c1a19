"""Scheduling as functions on arrays: numpy and numba, nothing else."""
