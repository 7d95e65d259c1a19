"""Benchmark scenarios and the demonstration."""
