"""Typed configuration: load, check, explain."""
