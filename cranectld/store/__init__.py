"""Event log, blobs and snapshots (SQLite)."""
