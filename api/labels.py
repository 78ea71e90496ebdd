"""Labels given as `?label=key:value`."""

from __future__ import annotations

from api.error_handlers import InvalidParameter


def read_labels(pairs: list[str]) -> dict[str, str] | None:
    """The pairs that must match; None without any. Raises InvalidParameter."""
    labels: dict[str, str] = {}
    for key, _, value in (pair.partition(":") for pair in pairs):
        if labels.setdefault(key, value) != value:
            raise InvalidParameter("label", f"{key} cannot have two values")
    return labels or None
