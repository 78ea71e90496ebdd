"""API keys: who calls, and what the call may do.

A key reads `gdx_<id>_<secret>`. The id names its row and may be shown; the secret is 256 random
bits of which only the SHA-256 is stored (docs/decisions tells why no slow hash is needed).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

LOCAL = "local"
"""Owner of everything that is asked for without a key."""
OWNER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What an owner may be called: also the name of a folder."""

_ID_BYTES, _SECRET_BYTES = 6, 32
_KEY = re.compile(r"gdx_([0-9a-f]{12})_([0-9a-f]{64})")
_LIKE_A_KEY = re.compile(r"(gdx_[0-9A-Za-z]{1,32})_[0-9A-Za-z_~+/=-]+")


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    """Look: GET of analyses, artifacts and the catalogue."""
    WRITE = "write"
    """Change: submit, upload, cancel, delete."""
    METRICS = "metrics"
    """GET /metrics."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as stored: everything but the secret."""

    id: str
    """12 hexadecimal digits."""
    name: str
    """For people."""
    owner: str
    """Whose analyses, files and layers it reaches; several keys may have one owner."""
    scopes: frozenset[Scope]
    """What it may do."""
    secret_sha256: str
    """Hexadecimal digest of the secret."""
    created_at: datetime
    """UTC."""
    expires_at: datetime | None = None
    """UTC; None: never."""
    revoked_at: datetime | None = None
    """UTC; None: not revoked."""

    def active(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def opened_by(self, secret: str) -> bool:
        """Whether `secret` is this key's; takes the same time whatever it is."""
        return hmac.compare_digest(self.secret_sha256, _digest(secret))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call."""

    owner: str
    """Whose analyses and files it reaches."""
    scopes: frozenset[Scope]
    """What it may do."""
    key_id: str | None = None
    """Of the key it came with; None: the server is open."""


ANYONE = Caller(LOCAL, frozenset(Scope))
"""Every caller of a server without keys."""


def mint(
    name: str,
    owner: str,
    scopes: frozenset[Scope],
    created_at: datetime,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its text, which nobody can tell again."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    key = ApiKey(key_id, name, owner, scopes, _digest(secret), created_at, expires_at)
    return key, f"gdx_{key_id}_{secret}"


def parse(text: str) -> tuple[str, str] | None:
    """Id and secret; None: this is no key."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found[1], found[2])


def without_secrets(text: str) -> str:
    """The same text with `…` for the secret of everything that looks like a key."""
    return _LIKE_A_KEY.sub(r"\1_…", text)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
