"""Where things are on the server."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

ANALYSES = "/v1/analyses"
ARTIFACTS = "/v1/artifacts"
CATALOG = "/v1/catalog"
HISTORY = "/v1/layers/history"


def analysis_path(analysis_id: str, *parts: str) -> str:
    """Of an analysis, or of a part of it."""
    return "/".join((ANALYSES, *(quote(part, safe="") for part in (analysis_id, *parts))))


def label_params(labels: Mapping[str, str] | None) -> list[str]:
    """Labels as a query has them."""
    return [f"{key}:{value}" for key, value in (labels or {}).items()]
