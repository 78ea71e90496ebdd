"""The `input` of a spec: one sample's shape, element type and range, or a list of several inputs
with a name each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.domain.architecture import LayerNode, Sample
from service.domain.grammar.faults import Faults, below
from service.domain.grammar.limits import MAX_DIMENSIONS, MAX_ELEMENTS
from service.domain.grammar.names import INPUT, name_fault
from service.domain.layers import LAYER_TYPES
from service.domain.layers.kinds import Choice, Each, Kind, Text, Whole
from service.domain.layers.layer_type import Takes
from service.domain.layers.signature import Argument, Signature
from service.domain.layers.tensor import Tensor, elements

DTYPES = ("float32", "int64", "int32")
"""Element types of a sample. Weights are float32; the probe's `precision` lowers both."""

_SHAPE: Kind = Each(Whole(), tuple(range(MAX_DIMENSIONS + 1)))
_FIELDS = (
    Argument("shape", _SHAPE),
    Argument("dtype", Choice(DTYPES), "float32"),
    Argument("high", Whole(), None),
)
_SIGNATURE = Signature("input", _FIELDS)
_NAMED = Signature("one of several inputs", (Argument("name", Text()), *_FIELDS))
MAX_SAMPLES = 16
"""Inputs of one network, as many as `probe.inputs` may have."""


def read_samples(value: Any, faults: Faults) -> tuple[tuple[Sample, ...], dict[str, Tensor | None]]:
    """The inputs as written, at least one, and what each brings (None when it is at fault)."""
    if not isinstance(value, list):
        sample = _read(value, "/input", _SIGNATURE, faults)
        return (sample or Sample(()),), {INPUT: _tensor(sample)}
    if not 0 < len(value) <= MAX_SAMPLES:
        faults.add("/input", f"`input` must be one input or a list of 1 to {MAX_SAMPLES}")
        return (Sample(()),), {INPUT: None}
    found: list[Sample] = []
    tensors: dict[str, Tensor | None] = {}
    for index, one in enumerate(value):
        pointer = below("/input", index)
        sample = _read(one, pointer, _NAMED, faults)
        if sample is not None and (wrong := name_fault(sample.name, found)):
            faults.add(below(pointer, "name"), wrong)
        found.append(sample or Sample((), name=f"input {index}"))
        tensors[found[-1].name] = _tensor(sample)
    return tuple(found), tensors


def _read(value: Any, pointer: str, signature: Signature, faults: Faults) -> Sample | None:
    if not isinstance(value, dict):
        faults.add(pointer, 'an input must be an object like {"shape": [64]}')
        return None
    before = len(faults)
    for fault in signature.faults(value):
        faults.add(below(pointer, *fault.steps), fault.detail)
    if len(faults) > before:
        return None
    said = signature.complete(value)
    sample = Sample(**{**said, "shape": tuple(said["shape"])})
    if elements(sample.shape) > MAX_ELEMENTS:
        faults.add(below(pointer, "shape"), f"one sample may have {MAX_ELEMENTS} numbers")
        return None
    if sample.high is not None and not sample.dtype.startswith("int"):
        faults.add(below(pointer, "high"), "`high` is the range of integers; the input has float32")
    return sample


def _tensor(sample: Sample | None) -> Tensor | None:
    return None if sample is None else Tensor(sample.shape, sample.dtype)


def with_ranges(
    samples: tuple[Sample, ...], nodes: tuple[LayerNode, ...], faults: Faults
) -> tuple[Sample, ...]:
    """Every input with the end of the range that its integers are drawn from: as given, else all
    that the smallest table of an Embedding knows among those that look them up.

    Raises InvalidRequest when the range given goes beyond a table, or no layer reads one of several
    inputs.
    """
    several = len(samples) > 1
    ranged = []
    for index, sample in enumerate(samples):
        pointer = below("/input", index) if several else "/input"
        if several and not any(sample.name in node.inputs for node in nodes):
            faults.stop(pointer, f"no layer reads the input `{sample.name}`")
        high = _range(sample, pointer, nodes, faults) if sample.dtype.startswith("int") else None
        ranged.append(replace(sample, high=high))
    return tuple(ranged)


def _range(sample: Sample, pointer: str, nodes: tuple[LayerNode, ...], faults: Faults) -> int:
    tables = _tables(sample.name, nodes)
    if not tables:  # of what is never looked up only the batch counts
        return sample.high or 1
    rows = min(tables)
    if sample.high is not None and sample.high > rows:
        detail = f"`high` is {sample.high}, but layer `{tables[rows]}` has {rows} embeddings"
        faults.stop(below(pointer, "high"), detail)
    return rows if sample.high is None else sample.high


def _tables(source: str, nodes: tuple[LayerNode, ...]) -> dict[int, str]:
    """Rows of the tables that integers of an input are looked up in → the layer."""
    carry, tables = {source}, {}
    for node in nodes:
        if carry.isdisjoint(node.inputs):
            continue
        if LAYER_TYPES[node.type].takes is Takes.INTEGERS:
            tables[int(node.args["num_embeddings"])] = node.name
        elif node.output_dtype.startswith("int"):
            carry.add(node.name)
    return tables
