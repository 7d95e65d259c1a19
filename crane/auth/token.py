"""Tokens: a user's identity for gRPC, issued by a daemon on the user's host from peer credentials.

Form: version, uid, gid, expiry (seconds), length of the user name, the name, 16 random bytes, MAC.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass

from crane.errors import CraneError, ErrorCode

_HEAD = struct.Struct(">BIIQB")
_VERSION = 1
_MAC_BYTES = 32
_NONCE_BYTES = 16
MAX_LIFETIME = 86_400
DEFAULT_LIFETIME = 600


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for, until when (seconds since the epoch)."""

    uid: int
    gid: int
    user: str
    expires: int


def issue(key: bytes, uid: int, gid: int, user: str, now: int, lifetime: int = 0) -> bytes:
    """Make a token; `lifetime` in seconds, 0 for the default, never more than MAX_LIFETIME."""
    expires = now + min(lifetime or DEFAULT_LIFETIME, MAX_LIFETIME)
    name = user.encode()[:255]
    body = _HEAD.pack(_VERSION, uid, gid, expires, len(name)) + name
    body += secrets.token_bytes(_NONCE_BYTES)
    return body + hmac.digest(key, b"crane token 1" + body, "sha256")


def verify(key: bytes, token: bytes, now: int) -> Identity:
    """Identity in a token. Raises CraneError (NOT_AUTHENTICATED): forged, malformed or expired."""
    body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
    good = hmac.compare_digest(hmac.digest(key, b"crane token 1" + body, "sha256"), mac)
    if not good or len(body) < _HEAD.size + _NONCE_BYTES:
        raise CraneError(
            ErrorCode.NOT_AUTHENTICATED,
            "the token was not issued by this cluster",
            "ask the daemon on your host for a new one",
        )
    version, uid, gid, expires, length = _HEAD.unpack_from(body)
    if version != _VERSION or len(body) != _HEAD.size + length + _NONCE_BYTES:
        raise CraneError(
            ErrorCode.NOT_AUTHENTICATED,
            f"token version {version} is not understood",
            "update the older side",
        )
    if expires < now:
        raise CraneError(
            ErrorCode.NOT_AUTHENTICATED,
            f"the token expired {now - expires} s ago",
            "ask the daemon on your host for a new one",
        )
    return Identity(uid, gid, body[_HEAD.size : _HEAD.size + length].decode(), expires)
