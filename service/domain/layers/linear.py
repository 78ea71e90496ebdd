"""Fully connected layers."""

from __future__ import annotations

from service.domain.layers.inference import last_size
from service.domain.layers.kinds import Flag, Whole
from service.domain.layers.layer_type import LayerType, Takes
from service.domain.layers.signature import Args, Argument
from service.domain.layers.tensor import Inputs, Misfit, Shape, listed


def _linear_shape(args: Args, inputs: Inputs) -> Shape:
    return (*inputs[0].shape[:-1], args["out_features"])


def _linear_parameters(args: Args) -> dict[str, Shape]:
    weight = {"weight": (args["out_features"], args["in_features"])}
    return weight | ({"bias": (args["out_features"],)} if args["bias"] else {})


def _bilinear_shape(args: Args, inputs: Inputs) -> Shape:
    first, second = (tensor.shape[:-1] for tensor in inputs)
    if first != second:
        takes = f"two inputs alike but for their last dimension, {listed(first)} like the first,"
        raise Misfit(takes, listed(second), position=1)
    return (*first, args["out_features"])


def _bilinear_parameters(args: Args) -> dict[str, Shape]:
    weight = {"weight": (args["out_features"], args["in1_features"], args["in2_features"])}
    return weight | ({"bias": (args["out_features"],)} if args["bias"] else {})


LINEAR_TYPES = (
    LayerType(
        "Linear",
        "linear",
        "x Wᵀ + b over the last dimension.",
        (
            Argument("in_features", Whole(), infer=last_size(), unit="features"),
            Argument("out_features", Whole()),
            Argument("bias", Flag(), True),
        ),
        output=_linear_shape,
        parameters=_linear_parameters,
        ranks=(1, None),
    ),
    LayerType(
        "Bilinear",
        "linear",
        "x₁ᵀ A x₂ + b over the last dimensions of two inputs.",
        (
            Argument("in1_features", Whole(), infer=last_size(), unit="features"),
            Argument("in2_features", Whole(), infer=last_size(1), unit="features", source=1),
            Argument("out_features", Whole()),
            Argument("bias", Flag(), True),
        ),
        output=_bilinear_shape,
        parameters=_bilinear_parameters,
        input_counts=(2,),
        ranks=(1, None),
    ),
    LayerType("Identity", "linear", "Hands its input on unchanged.", takes=Takes.ANY),
)
