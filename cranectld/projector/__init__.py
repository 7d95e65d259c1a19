"""Follows the log in a process of its own: accounting tables and snapshots."""
