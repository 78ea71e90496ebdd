"""Predictions from numbers alone, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    Measurements,
    ModelMeasurements,
    ParameterStatistics,
    Quantiles,
)
from service.theory.gains import batch_norm_gain, layer_norm_gain
from service.theory.nonlinearities import nonlinearity
from service.theory.prediction import predict, trainable_depth, with_predictions
from service.theory.propagation import depth_scale

WIDTH = 128


def parameter(name: str, shape: tuple[int, ...], rms: float | None) -> ParameterStatistics:
    return ParameterStatistics(name, shape, rms, 1.0, None, None, None)


def layer(
    *path: str,
    gain: float = 1.0,
    nonlinearity: str | None = None,
    parameters: tuple[ParameterStatistics, ...] = (),
    index: int = 0,
    **more: Any,
) -> LayerMeasurements:
    """A layer of 128 units whose weights have σ_w = gain, its input of root mean square 1."""
    weight = parameter(f"fc{index}.weight", (WIDTH, WIDTH), gain / math.sqrt(WIDTH))
    return LayerMeasurements(
        index=index,
        name=f"fc{index}",
        op="linear",
        nonlinearity=nonlinearity,
        normalization=None,
        residual=False,
        fan_in=WIDTH,
        fan_out=WIDTH,
        depth=index + 1,
        activation=ActivationStatistics(0.0, 1.0, 1.0, 4.0, 0.0, None, None, 0.0),
        gradient=GradientStatistics(1.0, 1.0, 1.0, 1.0),
        parameters=(weight, *parameters),
        **{
            "output_shape": (64, WIDTH),
            "path": path,
            "input_rms": 1.0,
            "reads": float(WIDTH),
            **more,
        },
    )


def gain(found: LayerMeasurements) -> float:
    prediction = predict(found)
    assert prediction is not None
    return prediction.gain


def test_sizes_alone_give_the_gain() -> None:
    assert gain(layer("weight", gain=0.8)) == pytest.approx(0.8)
    he = layer("weight", "activation", gain=math.sqrt(2), nonlinearity="relu")
    assert gain(he) == pytest.approx(1.0)
    default = layer("weight", "activation", gain=3**-0.5, nonlinearity="relu")
    assert gain(default) == pytest.approx(6**-0.5)


def test_padding_is_read_less() -> None:
    padded = layer("weight", reads=0.84 * WIDTH)
    assert gain(padded) == pytest.approx(math.sqrt(0.84))


def test_bias_and_input_saturate() -> None:
    plain = layer("weight", "activation", nonlinearity="tanh")
    biased = layer(
        "weight",
        "activation",
        nonlinearity="tanh",
        parameters=(parameter("fc0.bias", (WIDTH,), 2.0),),
    )
    loud = layer("weight", "activation", nonlinearity="tanh", input_rms=math.sqrt(5.0))
    assert gain(plain) == pytest.approx(math.sqrt(0.464403), rel=1e-5)
    assert gain(biased) == pytest.approx(gain(loud))
    assert gain(loud) < gain(plain)


def test_normalizations() -> None:
    """The weights' own scale cancels."""
    relu, tanh = nonlinearity("relu"), nonlinearity("tanh")
    assert relu is not None
    assert tanh is not None
    spread = math.sqrt(0.5 - 0.5 / math.pi)  # of ReLU's output at unit input
    batch = layer(
        "weight",
        "batch_norm",
        "activation",
        gain=0.3,
        nonlinearity="relu",
        input_rms=math.sqrt(0.5),
        input_std=spread,
        output_shape=(512, WIDTH),
    )
    assert gain(batch) == pytest.approx(batch_norm_gain(relu) * math.sqrt(510 / 509))
    for kind in ("layer_norm", "rms_norm"):
        sample = layer(
            "weight",
            kind,
            "activation",
            gain=0.3,
            nonlinearity="tanh",
            input_rms=math.sqrt(0.394294),
        )
        assert gain(sample) == pytest.approx(layer_norm_gain(tanh), rel=1e-5)


def test_scale_and_shift_of_a_normalization() -> None:
    affine = (parameter("norm.weight", (WIDTH,), 2.0), parameter("norm.bias", (WIDTH,), 0.0))
    plain = layer("weight", "layer_norm", "activation", nonlinearity="relu")
    scaled = replace(plain, parameters=(*plain.parameters, *affine))
    assert gain(scaled) == pytest.approx(2 * gain(plain))


def test_residuals() -> None:
    assert gain(layer("weight", "own_residual", gain=2.0)) == pytest.approx(math.sqrt(5))
    assert gain(layer("weight", "residual", gain=2.0)) == pytest.approx(2)
    assert predict(layer("weight", "residual", "activation", nonlinearity="relu")) is None


def test_slopes_of_prelu_and_leaky_relu() -> None:
    slope = parameter("act.weight", (1,), 0.5)
    prelu = layer("weight", "activation", nonlinearity="prelu", parameters=(slope,))
    leaky = layer(
        "weight",
        "activation",
        nonlinearity="leaky_relu",
        nonlinearity_args={"negative_slope": 0.5},
    )
    assert gain(prelu) == gain(leaky) == pytest.approx(math.sqrt(0.625))


@pytest.mark.parametrize(
    "uncovered",
    [
        layer(),
        layer("layer_norm", "weight"),
        layer("weight", "other"),
        layer("weight", "normalization"),
        layer("weight", "activation", nonlinearity="glu"),
        layer("weight", nonlinearity="relu"),
        layer("weight", "activation"),
        layer("weight", input_rms=None),
        layer("weight", reads=None),
        layer("weight", "batch_norm", input_std=None),
        layer("weight", "batch_norm", input_std=0.0),
        layer("weight", "activation", "layer_norm", nonlinearity="tanh"),
        layer("weight", parameters=(parameter("other.weight", (3, 3), 1.0),)),
    ],
)
def test_what_theory_does_not_cover(uncovered: LayerMeasurements) -> None:
    assert predict(uncovered) is None


def test_error_bars_fall_with_width() -> None:
    relu = predict(layer("weight", "activation", nonlinearity="relu"))
    linear = predict(layer("weight"))
    assert relu is not None
    assert linear is not None
    assert relu.log_std == pytest.approx(0.5 * math.sqrt(5 / WIDTH))
    assert linear.log_std == pytest.approx(0.5 * math.sqrt(2 / WIDTH))


def stack(count: int, *, activation: str = "relu", weight: float = 0.8) -> list[LayerMeasurements]:
    hidden = [
        layer("weight", "activation", gain=weight, nonlinearity=activation, index=index)
        for index in range(count - 1)
    ]
    return [*hidden, layer("weight", index=count - 1)]


def test_six_depth_scales() -> None:
    """χ = σ_w²/2 at every q, so that the sum is 6 after 6ξ layers; the scatter of 5/n a layer
    moves it by two standard deviations either way."""
    found = trainable_depth(stack(30, weight=1.3))
    assert found is not None
    depth = 6 * depth_scale(1.3**2 / 2)
    assert found["predicted"] == pytest.approx(depth, rel=1e-6)
    assert found["actual"] == 30
    low, high = found["low"], found["high"]
    assert low is not None
    assert high is not None
    for edge, sign in ((low, 1), (high, -1)):
        reached = 6 * edge / depth + sign * 2 * math.sqrt(5 * edge / WIDTH)
        assert reached == pytest.approx(6, abs=0.02)


def test_finite_depth_not_the_fixed_point() -> None:
    """tanh with σ_w = 1 has χ₁* = 1: forever, by its fixed point; but it loses e⁶ on the way."""
    found = trainable_depth(stack(20, activation="tanh", weight=1.0))
    assert found is not None
    assert found["predicted"] is not None
    assert 200 < found["predicted"] < 400


def test_no_end_within_reach() -> None:
    found = trainable_depth(stack(20, weight=math.sqrt(2)))
    assert found is not None
    assert found["predicted"] is None
    assert found["high"] is None
    assert found["low"] == pytest.approx(9 * WIDTH / 5, rel=1e-3)


def test_only_plain_stacks_of_one_kind_have_a_depth() -> None:
    plain = stack(6)
    assert trainable_depth(plain) is not None
    assert trainable_depth(plain[:2]) is None
    mixed = [*plain[:3], replace(plain[3], nonlinearity="tanh"), *plain[4:]]
    assert trainable_depth(mixed) is None
    branched = [*plain[:3], replace(plain[3], depth=2), *plain[4:]]
    assert trainable_depth(branched) is None
    normalised = [replace(one, path=("weight", "layer_norm", "activation")) for one in plain[:-1]]
    assert trainable_depth([*normalised, plain[-1]]) is None
    steps = [layer("weight", gain=0.5 + 0.2 * i, index=i) for i in range(6)]
    assert trainable_depth(steps) is None
    assert trainable_depth([]) is None


def test_predictions_stand_beside_the_measurements() -> None:
    model = ModelMeasurements(
        "mse", True, 1.0, 1.0, Quantiles(1.0, 1.0, 1.0, 1), None, None, (64, 10), None
    )
    layers = (*stack(6), replace(layer(index=6), op="attention"))
    found = with_predictions(Measurements(model, layers, ()))
    gains = [one.gradient.predicted_gain for one in found.layers]
    assert gains[0] == pytest.approx(0.8 / math.sqrt(2))
    assert gains[-1] is None
    assert found.model.trainable_depth is None
    plain = with_predictions(Measurements(model, layers[:-1], ()))
    assert plain.model.trainable_depth == trainable_depth(layers[:-1])
