"""The `input` of a spec: one sample's shape, element type and range."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.domain.architecture import LayerNode
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.limits import MAX_DIMENSIONS, MAX_ELEMENTS
from service.domain.layers import LAYER_TYPES
from service.domain.layers.kinds import Choice, Each, Kind, Whole
from service.domain.layers.layer_type import Takes
from service.domain.layers.signature import Argument, Signature
from service.domain.layers.tensor import Tensor, elements

DTYPES = ("float32", "int64", "int32")
"""Element types of a sample. Weights are float32; the probe's `precision` lowers both."""

_SHAPE: Kind = Each(Whole(), tuple(range(MAX_DIMENSIONS + 1)))
_SIGNATURE = Signature(
    "input",
    (
        Argument("shape", _SHAPE),
        Argument("dtype", Choice(DTYPES), "float32"),
        Argument("high", Whole(), None),
    ),
)


def read_sample(value: Any, faults: Faults) -> tuple[Tensor | None, int | None]:
    """The sample (None when it is at fault) and, for integers, the end of their range if given."""
    if not isinstance(value, dict):
        faults.add("/input", '`input` must be an object like {"shape": [64]}')
        return None, None
    before = len(faults)
    for fault in _SIGNATURE.faults(value):
        faults.add(below("/input", *fault.steps), fault.detail)
    if len(faults) > before:
        return None, None
    sample = Tensor(tuple(value["shape"]), value.get("dtype", "float32"))
    if elements(sample.shape) > MAX_ELEMENTS:
        faults.add("/input/shape", f"one sample may have {MAX_ELEMENTS} numbers")
        return None, None
    if "high" in value and not sample.is_integer:
        faults.add("/input/high", "`high` is the range of integers; the input has float32")
    return sample, value.get("high")


def check_range(given: int | None, nodes: Iterable[LayerNode], faults: Faults) -> int:
    """End of the range that integers are drawn from: as given, else all that the smallest table of
    an Embedding knows, so that every one of them can look them up.

    Integers end in an Embedding, so there is at least one. Raises InvalidRequest when the range
    given goes beyond a table.
    """
    tables = {node.args["num_embeddings"]: node.name for node in nodes if _looks_up(node)}
    rows = min(tables)
    if given is not None and given > rows:
        detail = f"`high` is {given}, but layer `{tables[rows]}` has {rows} embeddings"
        faults.stop("/input/high", detail)
    return rows if given is None else given


def _looks_up(node: LayerNode) -> bool:
    return LAYER_TYPES[node.type].takes is Takes.INTEGERS
