"""What every form says of an analysis, in the same words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.domain.analysis import Analysis, Failure, Status
from service.domain.findings import Finding

MOST_LAYERS = 6
"""Names told of a list of layers; of longer lists the first, the last and how many."""

_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, and what could move a terminal's cursor: names come from models."""


def clean(text: str) -> str:
    """`text` without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def model_path(analysis: Analysis, path: str | None) -> str:
    """Where the model's file is, as the caller told it; else a name for it."""
    return path or ("model.json" if analysis.model_format in (None, "spec") else "model.pt")


def told_layers(layers: Sequence[str]) -> str:
    """Names, and how many there are where not all are told; "the whole model" for none."""
    if not layers:
        return "the whole model"
    if len(layers) <= MOST_LAYERS:
        return ", ".join(layers)
    return f"{', '.join(layers[: MOST_LAYERS // 2])} … {layers[-1]} ({len(layers)} layers)"


def shuts_the_gate(analysis: Analysis, finding: Finding) -> bool:
    """Whether this finding alone makes `passed` false."""
    limit = analysis.request.fail_on
    return limit is not None and finding.severity.rank >= limit.rank


def failure_of(analysis: Analysis) -> Failure:
    """Why a final analysis has no diagnosis."""
    if analysis.error is not None:
        return analysis.error
    told = "cancelled" if analysis.status is Status.CANCELLED else str(analysis.status)
    return Failure(told, f"The analysis was {told}", "Nothing is known about the model.")
