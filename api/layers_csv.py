"""Layer statistics as a table: one row per layer, one column per statistic."""

from __future__ import annotations

import csv
import io
from typing import Any

from api.schemas.responses import LayersOut


def layers_csv(layers: LayersOut) -> str:
    """Columns are dotted as in JSON; a parameter's are named by its own last name
    (weight.grad_norm), lowest and highest values end in .low and .high; empty: null. What has a
    number per time step is left out."""
    rows = [_row(layer) for layer in layers.model_dump(mode="json")["layers"]]
    columns = {column: None for row in rows for column in row} or {"index": None, "name": None}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(layer: dict[str, Any]) -> dict[str, Any]:
    parameters, spread = layer.pop("parameters"), layer.pop("spread")
    layer.pop("time_steps")
    row = _flat(layer)
    for parameter in parameters:
        own_name = parameter.pop("name").rpartition(".")[2]
        row |= _flat(parameter, f"{own_name}.")
    for statistic, (low, high) in spread.items():
        row |= {f"{statistic}.low": low, f"{statistic}.high": high}
    return row


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            row |= _flat(item, f"{prefix}{name}.")
        else:
            row[prefix + name] = "x".join(map(str, item)) if isinstance(item, list) else item
    return row
