"""The log's format: events and snapshots as bytes (`proto/crane/log/v1/log.proto`).

Only this package knows `crane.log.v1`. `encode_batch` and `decode_batch` are exact inverses for every
event; what cannot be read is refused, never skipped.
"""

from __future__ import annotations

from cranectld.store.codec.batch import FORMAT, decode_batch, encode_batch

__all__ = ["FORMAT", "decode_batch", "encode_batch"]
