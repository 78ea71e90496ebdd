"""Names and digests: of an analysis, of a question, of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from secrets import randbits
from uuid import UUID

from service.domain.request import AnalysisRequest, ModelRequest


def new_id(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562, method 3): sorts by creation, to a quarter microsecond."""
    microseconds = int(now.timestamp() * 1_000_000)
    milliseconds, rest = divmod(microseconds, 1000)
    number = (
        milliseconds << 80 | 0x7 << 76 | (rest * 4096 // 1000) << 64 | 0b10 << 62 | randbits(62)
    )
    return str(UUID(int=number))


def fingerprint(
    request: AnalysisRequest, *, without: Collection[str] = (), version: str = ""
) -> str:
    """Digest of what a request says, defaults filled in and files by their content; the same for
    JSON and a form."""
    said = {name: value for name, value in asdict(request).items() if name not in without}
    canonical = json.dumps([version, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def digest(model: ModelRequest) -> str:
    """Of the model as submitted, without its kind: a spec and, when given, the id of its weights.
    JSON with sorted keys and without spaces."""
    weights = {} if model.weights_id is None else {"weights": model.weights_id}
    described = {**(model.spec or {}), **weights}
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
