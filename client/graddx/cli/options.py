"""Options of `graddx check` that are more than a word. All raise InvalidInput."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graddx.errors import InvalidInput

INPUT_FORM = "SHAPE[:DTYPE[:HIGH]], as 3,32,32 or 128:int64:30522"


def read_input(text: str) -> dict[str, Any]:
    """One entry of `probe.inputs`: "3,32,32:float32", "128:int64:30522"; sizes of one sample."""
    shape, *rest = text.split(":")
    try:
        sizes = [int(size) for size in shape.split(",") if size.strip() or "," in shape]
        high = [int(number) for number in rest[1:]]
    except ValueError as error:
        raise InvalidInput(f"--input {text}: expected {INPUT_FORM}") from error
    if len(rest) > 2 or "" in rest:
        raise InvalidInput(f"--input {text}: expected {INPUT_FORM}")
    fields: dict[str, Any] = {"shape": sizes}
    fields |= dict(zip(("dtype", "high"), [*rest[:1], *high], strict=False))
    return fields


def read_probe(text: str | None, inputs: Sequence[str]) -> dict[str, Any]:
    """`probe` of the request: a JSON object or @FILE with one, and the entries of `--input`."""
    probe = _json_object(text) if text is not None else {}
    if not inputs:
        return probe
    if "inputs" in probe:
        raise InvalidInput("--input: --probe has inputs already")
    return {**probe, "inputs": [read_input(one) for one in inputs]}


def read_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Labels given as key=value."""
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidInput(f"--label {pair}: expected KEY=VALUE")
        labels[key] = value
    return labels


def read_baseline(pair: str | None) -> dict[str, str] | None:
    """`baseline` of the request, given as the label key=value."""
    if pair is None:
        return None
    key, separator, value = pair.partition("=")
    if not separator or not key:
        raise InvalidInput(f"--baseline {pair}: expected KEY=VALUE, a label, as branch=main")
    return {"label": f"{key}:{value}"}


def _json_object(text: str) -> dict[str, Any]:
    where = "--probe"
    try:
        if text.startswith("@"):
            where = f"--probe {text}"
            text = Path(text[1:]).read_text(encoding="utf-8")
        parsed = json.loads(text)
    except OSError as error:
        raise InvalidInput(f"{where}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{where}: not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidInput(f'{where}: must be a JSON object, as {{"batch_size": 16}}')
    return parsed
