"""Layer statistics of one analysis as JSON or as a table, sent as they are read: thousands are
never held at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from api.schemas.responses import LayerOut
from service.domain.measurements import LayerMeasurements
from service.use_cases import Engine

AT_ONCE = 250
"""Layers read from the database at once."""


class Layers:
    """All layers of an analysis, or one page of them."""

    def __init__(
        self, engine: Engine, analysis_id: str, limit: int | None, cursor: str | None
    ) -> None:
        """`cursor`: index of the layer before the first. Raises AnalysisNotFound."""
        self._engine = engine
        self._id = analysis_id
        self._after = -1 if cursor is None else int(cursor)
        self._page: tuple[LayerMeasurements, ...] | None = None
        self._status = engine.status(analysis_id)  # before anything is sent
        self.next_cursor: str | None = None
        """Of the next page; None on the last one, and where all are wanted."""
        if limit is not None:
            found = engine.layers(analysis_id, after=self._after, limit=limit + 1)
            self._page = found[:limit]
            self.next_cursor = str(self._page[-1].index) if len(found) > limit else None

    def json(self) -> Iterator[str]:
        """A `LayersOut`."""
        told = {"id": self._id, "status": self._status, "next_cursor": self.next_cursor}
        yield json.dumps(told, separators=(",", ":")).removesuffix("}") + ',"layers":['
        between = ""
        for page in self._pages():
            yield between + ",".join(layer.model_dump_json() for layer in page)
            between = ","
        yield "]}"

    def csv(self) -> Iterator[str]:
        """A row per layer, a column per statistic. Columns are dotted as in JSON; a parameter's are
        named by its own last name (weight.grad_norm), lowest and highest values end in .low and
        .high; empty: null. What has a number per time step is left out."""
        columns = dict.fromkeys(chain.from_iterable(chain.from_iterable(self._tables())))
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns) or ["index", "name"])
        writer.writeheader()
        for rows in self._tables():
            writer.writerows(rows)
            yield text.getvalue()
            text.seek(0)
            text.truncate()
        yield text.getvalue()

    def _tables(self) -> Iterator[list[dict[str, Any]]]:
        for page in self._pages():
            yield [_row(layer.model_dump(mode="json")) for layer in page]

    def _pages(self) -> Iterator[list[LayerOut]]:
        for page in self._read():
            yield [LayerOut.model_validate(layer) for layer in page]

    def _read(self) -> Iterator[tuple[LayerMeasurements, ...]]:
        if self._page is not None:
            yield self._page
            return
        after = self._after
        while page := self._engine.layers(self._id, after=after, limit=AT_ONCE):
            yield page
            after = page[-1].index


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
