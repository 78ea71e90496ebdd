"""Where a list goes on: the last id seen, opaque to callers."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from service.domain.errors import InvalidRequest


def encode(analysis_id: str) -> str:
    """A cursor that goes on after this analysis."""
    return urlsafe_b64encode(UUID(analysis_id).bytes).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The id in a cursor. Raises InvalidRequest."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        return str(UUID(bytes=raw))
    except (ValueError, binascii.Error) as error:
        raise InvalidRequest(
            "cursor is not one that this server gave", pointer="/cursor"
        ) from error
