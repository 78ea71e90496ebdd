"""Bring the data to mean 0 and variance 1."""

from __future__ import annotations

from typing import Any

from service.domain.findings import Finding
from service.domain.measurements import InputStatistics
from service.domain.recommendations import Recommendation
from service.recommendation.case import RECURRENT_OPS, Case
from service.recommendation.repaired import patch_of

CODE = "unscaled_input"
"""The finding that it is for."""
COMMON = frozenset({"large", "small"})
"""Kinds of the finding that one mean and one deviation for all features cure."""


class ScaleInput:
    """Standardize the data before the first layer.

    ### What it changes
    The data: each feature less its mean, divided by its standard deviation, both taken from the
    training data once. In the model the same is a normalization before the first layer, BatchNorm
    for features and channels, LayerNorm for sequences; that is what is measured and what the
    repaired spec has.

    ### When it is offered
    When data were sent with the request and are unscaled: far too large or small, far from zero, or
    some features many times larger than others.

    ### Why it works
    Initializations keep the scale that comes in, so a factor in the data is a factor in every
    layer; a feature a hundred times larger takes all of the step that one learning rate allows, and
    an offset makes the gradients of a unit's weights point one way.

    ### Limits
    The same numbers have to be used wherever the model is used: keep them with the model. LayerNorm
    removes each step's own mean and scale, which may carry meaning.

    ### References
    * LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, §4.3. Ioffe & Szegedy 2015, §3.
    """

    kind = "input_scaling"
    cures = frozenset({CODE})

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        if not case.codes(self.cures):
            return ()
        found = next(f for f in case.diagnosis.findings if f.code == CODE)
        data = {one.index: one for one in case.measurements.model.inputs}
        seen = data.get(found.evidence.get("input", 0))
        if seen is None:
            return ()
        normalization = _normalization(case, seen)
        change = {
            "input": seen.index,
            "normalization": normalization,
            "mean": seen.mean,
            "std": seen.std,
        }
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=(),
                title="Standardize the input",
                why=f"The data have mean {seen.mean:.3g} and standard deviation {seen.std:.3g};"
                " initializations keep signal and gradient at mean 0 and variance 1.",
                resolves=(CODE,),
                change=change,
                patch=patch_of(case.architecture, {"kind": self.kind, **change}),
                code=_code(found, seen, normalization),
            ),
        )


def _normalization(case: Case, seen: InputStatistics) -> dict[str, Any]:
    first = case.measurements.layers[0]
    shape = case.architecture.inputs[seen.index].shape if case.architecture else ()
    places = len(shape) - 1 if shape else _places(first.op, first.output_shape)
    sequence = places == 1 and not first.op.startswith("conv")
    if sequence:
        features = shape[-1] if shape else seen.features
        return {
            "type": "LayerNorm",
            "args": {"normalized_shape": features},
        }
    features = shape[0] if shape else seen.features
    kind = f"BatchNorm{max(places, 1)}d"
    return {"type": kind, "args": {"num_features": features}}


def _places(op: str, output_shape: tuple[int, ...]) -> int:
    """Dimensions of a sample besides its features, as the first layer tells."""
    if op.startswith("conv"):
        return int(op[-2])
    return 1 if op in RECURRENT_OPS else max(len(output_shape) - 2, 0)


def _code(found: Finding, seen: InputStatistics, normalization: dict[str, Any]) -> str:
    if found.evidence.get("kind") in COMMON and seen.std > 0:
        return (
            f"x = (x - {seen.mean:.6g}) / {seen.std:.6g}"
            "  # of the data that were sent; the same numbers in training and in use"
        )
    dims = "tuple(d for d in range(x.ndim) if d != 1)"
    if normalization["type"] == "LayerNorm":
        dims = "tuple(range(x.ndim - 1))"
    return (
        "# x: all training data; keep mean and std, and use them wherever the model is used\n"
        f"dims = {dims}\n"
        "mean, std = x.mean(dims, keepdim=True), x.std(dims, keepdim=True)\n"
        "x = (x - mean) / std.where(std > 0, 1)"
    )
