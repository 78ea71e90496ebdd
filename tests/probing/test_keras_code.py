"""What is recommended for a Keras model runs in Keras, and does there what the change says."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

import numpy as np
import pytest

os.environ["KERAS_BACKEND"] = "torch"
keras: Any = importlib.import_module("keras")

from service.domain.architecture import Architecture, resolve  # noqa: E402
from service.domain.findings import Diagnosis  # noqa: E402
from service.domain.keras import translate  # noqa: E402
from service.domain.measurements import Trial, TrialRun  # noqa: E402
from service.domain.probe_plan import OptimizerPlan, ProbePlan  # noqa: E402
from service.domain.recommendations import Recommendation  # noqa: E402
from service.domain.request import ALL_KINDS  # noqa: E402
from service.probing.session import Session  # noqa: E402
from service.recommendation import recommend  # noqa: E402
from service.recommendation.keras_source import in_keras  # noqa: E402
from tests.unit.recommendation.remedy_cases import diagnosis  # noqa: E402

L = keras.layers
PLAN = ProbePlan(batch_size=16, batches=1, seeds=1, trial_steps=0)
VANISHING = diagnosis("vanishing_gradient")
TOLERANCE = 0.25
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras hands torch's tensors to numpy in an old way."""


def stack(activation: str, depth: int = 6, init: Any = "glorot_uniform") -> Any:
    given = {"kernel_initializer": init}
    hidden = [L.Dense(32, activation=activation, name=f"fc{n}", **given) for n in range(depth)]
    return keras.Sequential([L.Input((32,)), *hidden, L.Dense(3, name="head", **given)])


def images() -> Any:
    sigmoid = {"padding": "same", "activation": "sigmoid"}
    return keras.Sequential(
        [
            L.Input((8, 8, 3)),
            L.Conv2D(8, 3, name="conv", **sigmoid),
            L.SeparableConv2D(8, 3, name="sep", **sigmoid),
            L.DepthwiseConv2D(3, name="deep", **sigmoid),
            L.Conv2D(8, 3, name="last", padding="same"),
            L.Activation("sigmoid", name="own"),
            L.Flatten(),
            L.Dense(3, name="head"),
        ]
    )


def sequence(cell: Any) -> Any:
    return keras.Sequential([L.Input((12, 4)), cell, L.Dense(3, name="head")])


def advice(
    model: Any, found: Diagnosis, **options: Any
) -> tuple[Architecture, dict[str, Recommendation]]:
    translated = resolve(translate(json.loads(model.to_json())).spec)
    measured = Session.open(PLAN, translated, None).measure()
    options = {"allowed_changes": ALL_KINDS, "batch_size": 16, **options}
    offered = recommend(found, measured, architecture=translated, **options)
    return translated, {
        one.kind: one for one in offered if one.change.get("activation") != "Identity"
    }


def pasted(model: Any, said: str, **names: Any) -> dict[str, Any]:
    room: dict[str, Any] = {"model": model, "keras": keras, **names}
    exec(compile(said, "advice", "exec"), room)
    return room


def gain(kernel: Any) -> float:
    values = keras.ops.convert_to_numpy(kernel)
    return float(np.sqrt(np.mean(values**2) * np.prod(values.shape[:-1])))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "selu"])
def test_weights_are_drawn_as_the_change_says(activation: str) -> None:
    model = stack(activation, init=keras.initializers.RandomNormal(stddev=0.01))
    architecture, offered = advice(model, VANISHING)
    drawn = {one["parameter"]: one for one in offered["initializer"].change["parameters"]}
    pasted(model, in_keras(offered["initializer"], architecture))
    for layer in model.layers:
        wanted = drawn[f"{layer.name}.weight"]["gain"]
        assert gain(layer.kernel) == pytest.approx(wanted, rel=TOLERANCE)


def test_initializers_have_keras_names() -> None:
    model = stack("relu")
    architecture, offered = advice(model, VANISHING)
    said = in_keras(offered["initializer"], architecture)
    assert "keras.initializers.HeNormal()" in said
    assert "torch" not in said


def test_an_activation_is_exchanged_where_an_argument_names_it() -> None:
    model = stack("sigmoid")
    architecture, offered = advice(model, VANISHING)
    pasted(model, in_keras(offered["activation"], architecture))
    hidden = [layer for layer in model.layers if layer.name != "head"]
    assert {layer.activation.__name__ for layer in hidden} == {"relu"}
    assert {round(gain(layer.kernel) ** 2) for layer in hidden} == {2}
    assert model.predict(np.ones((2, 32)), verbose=0).shape == (2, 3)


def test_kernels_of_every_convolution() -> None:
    model = images()
    architecture, offered = advice(model, VANISHING)
    change = offered["activation"].change
    drawn = {one["parameter"]: one["gain"] for one in change["parameters"]}
    pasted(model, in_keras(offered["activation"], architecture))
    layers = {layer.name: layer for layer in model.layers}
    assert layers["conv"].activation.__name__ == "relu"
    assert layers["own"].activation.__name__ == "relu"
    assert gain(layers["sep"].pointwise_kernel) == pytest.approx(drawn["sep.weight"], rel=0.4)
    kernel = keras.ops.convert_to_numpy(layers["deep"].kernel)
    assert np.sqrt(np.mean(kernel**2) * 9) == pytest.approx(drawn["deep.weight"], rel=0.4)


def test_normalizations_and_skips_are_layers_of_keras() -> None:
    architecture, offered = advice(stack("sigmoid"), VANISHING)
    for kind, made in (("normalization", "BatchNormalization"), ("residual", "Add")):
        said = in_keras(offered[kind], architecture)
        (line,) = [line for line in said.splitlines() if line.startswith("x = ")]
        x = L.Input((32,))
        room = pasted(None, line, x=x, f=L.Dense(32))
        assert made in line
        assert room["x"].shape == (None, 32)


def test_projections_are_layers_of_keras() -> None:
    dense = [L.Dense(units, "tanh", name=f"fc{n}") for n, units in enumerate((32, 1))]
    model = keras.Sequential([L.Input((32,)), *dense, L.Dense(3, name="head")])
    architecture, offered = advice(model, diagnosis("narrow_layer"))
    said = in_keras(offered["residual"], architecture)
    room = pasted(None, said.splitlines()[1], x=L.Input((32,)), f=L.Dense(3))
    assert "# f: each of 'fc1 … head'" in said
    assert 'Dense(3, use_bias=False, kernel_initializer="lecun_normal")(x)' in said
    assert room["x"].shape == (None, 3)


def test_strided_projections_are_convolutions_of_keras() -> None:
    sizes = ((8, 1), (1, 1), (16, 2), (4, 1))
    convolutions = [
        L.Conv2D(channels, 3, stride, "same", activation="relu", name=f"conv{n}")
        for n, (channels, stride) in enumerate(sizes)
    ]
    ends = [L.Flatten(), L.Dense(3, name="head")]
    model = keras.Sequential([L.Input((9, 9, 3)), *convolutions, *ends])
    architecture, offered = advice(model, diagnosis("narrow_layer"))
    said = in_keras(offered["residual"], architecture)
    (line,) = [line for line in said.splitlines() if "Conv2D" in line]
    f = L.Conv2D(16, 3, 2, "same")
    room = pasted(None, line, x=L.Input((9, 9, 8)), f=f)
    assert room["x"].shape == (None, 5, 5, 16)


def test_recurrent_weights_and_another_cell() -> None:
    for cell in (L.SimpleRNN, L.LSTM):
        model = sequence(cell(16, name="rnn"))
        found = diagnosis("fading_memory", layers=("rnn",))
        architecture, offered = advice(model, found)
        pasted(model, in_keras(offered["initializer"], architecture))
        hidden = keras.ops.convert_to_numpy(model.get_layer("rnn").cell.recurrent_kernel)
        if cell is L.SimpleRNN:
            np.testing.assert_allclose(hidden.T @ hidden, np.eye(16), atol=1e-5)
            said = in_keras(offered["recurrent_cell"], architecture)
            room = pasted(None, said.splitlines()[1], x=L.Input((12, 4)))
            assert room["x"].shape == (None, 16)
        else:
            bias = keras.ops.convert_to_numpy(model.get_layer("rnn").cell.bias)
            np.testing.assert_array_equal(bias, [0.0] * 16 + [1.0] * 16 + [0.0] * 32)


def test_dropout_is_lowered() -> None:
    layers = [layer for n in range(3) for layer in (L.Dense(32, name=f"fc{n}"), L.Dropout(0.9))]
    model = keras.Sequential([L.Input((32,)), *layers, L.Dense(3, name="head")])
    architecture, offered = advice(model, diagnosis("drowned_signal"))
    pasted(model, in_keras(offered["regularization"], architecture))
    assert [layer.rate for layer in model.layers if isinstance(layer, L.Dropout)] == [0.2] * 3


def test_changes_of_the_training_are_those_of_an_optimizer() -> None:
    spiky = tuple([1.0] * 95 + [50.0] * 5)
    run = TrialRun("sgd", 5.0, (2.3, 50.0), spiky, 0.1, learned=False, progress=0.0)
    model = stack("relu")
    options = {
        "trial": Trial("gaussian_classes", 100, (run,)),
        "optimizer": OptimizerPlan("sgd", 5.0),
    }
    architecture, offered = advice(model, diagnosis("untrainable"), **options)
    optimizer = keras.optimizers.SGD(5.0)
    for kind in ("clipping", "learning_rate"):
        pasted(None, in_keras(offered[kind], architecture), optimizer=optimizer)
    assert optimizer.global_clipnorm == offered["clipping"].change["max_norm"]
    assert float(optimizer.learning_rate) == pytest.approx(offered["learning_rate"].change["lr"])
    decay = Recommendation("", "regularization", (), "", "", (), {"weight_decay": 0.01})
    adam = keras.optimizers.AdamW(1e-3)
    pasted(None, in_keras(decay, architecture), optimizer=adam)
    assert adam.weight_decay == 0.01
    scale = Recommendation("", "loss_scaling", (), "", "", (), {"loss_scale": 1024.0})
    room = pasted(None, in_keras(scale, architecture), optimizer=adam)
    assert room["optimizer"].initial_scale == 1024.0


def test_data_are_standardized_in_front_of_the_model() -> None:
    model = stack("relu")
    scaling = Recommendation("", "input_scaling", (), "", "", (), {"input": 0})
    architecture, _ = advice(model, VANISHING)
    data = np.random.default_rng(0).normal(100.0, 30.0, (200, 32)).astype("float32")
    room = pasted(model, in_keras(scaling, architecture), inputs=data)
    scaled = keras.ops.convert_to_numpy(room["normalize"](data))
    assert abs(scaled.mean()) < 1e-3
    assert scaled.std() == pytest.approx(1.0, abs=1e-3)
    assert room["model"].predict(data, verbose=0).shape == (200, 3)


def test_pretraining_runs() -> None:
    model = stack("sigmoid", depth=3)
    allowed = tuple(kind for kind in ALL_KINDS if kind != "activation")
    architecture, offered = advice(model, VANISHING, allowed_changes=allowed)
    before = keras.ops.convert_to_numpy(model.get_layer("fc2").kernel).copy()
    said = in_keras(offered["pretraining"], architecture)
    pasted(model, said, inputs=np.random.default_rng(0).normal(size=(640, 32)))
    assert np.abs(keras.ops.convert_to_numpy(model.get_layer("fc2").kernel) - before).max() > 1e-3


def test_layers_of_nested_models_and_held_ones_are_found() -> None:
    inner = keras.Sequential([L.Input((5, 8)), L.Dense(8, "tanh", name="fc")], name="inner")
    x = given = L.Input((5, 8))
    x = L.TimeDistributed(L.Dense(8, activation="tanh"), name="each")(inner(x))
    x = L.MultiHeadAttention(2, 4, name="seen")(x, x)
    model = keras.Model(given, L.Dense(2, name="head")(x))
    architecture = resolve(translate(json.loads(model.to_json())).spec)
    assert [node.name for node in architecture.layers] == [
        "inner-fc", "inner-fc_tanh", "each--layer", "each--layer_tanh", "seen", "head",
    ]  # fmt: skip
    names = ("inner-fc.weight", "each--layer.weight", "seen.in_proj_weight", "seen.out_proj.weight")
    draws = [
        {"parameter": name, "initializer": "constant_", "args": {"val": 0.5 + place}}
        for place, name in enumerate(names)
    ]
    one = Recommendation("", "initializer", (), "", "", (), {"parameters": draws})
    pasted(model, in_keras(one, architecture))
    seen = model.get_layer("seen")
    drawn = [
        inner.get_layer("fc"),
        model.get_layer("each").layer,
        *(seen.query_dense, seen.key_dense, seen.value_dense),
        seen.output_dense,
    ]
    values = [keras.ops.convert_to_numpy(one.kernel).flatten()[0] for one in drawn]
    assert values == [0.5, 1.5, 2.5, 2.5, 2.5, 3.5]
    change = {"activation": "ReLU", "replaces": "Tanh"}
    swap = Recommendation("", "activation", ("inner-fc", "each--layer"), "", "", (), change)
    pasted(model, in_keras(swap, architecture))
    assert inner.get_layer("fc").activation is keras.activations.relu
    assert model.get_layer("each").layer.activation is keras.activations.relu


def test_two_towers_of_shared_layers_are_advised() -> None:
    """A merge reads what follows the last of them: the skip can only be written into forward."""
    left, right = L.Input((16,), name="left"), L.Input((16,), name="right")
    hidden = [L.Dense(16, "sigmoid", name=f"fc{n}") for n in range(10)]
    tower = keras.Sequential([L.Input((16,)), *hidden], name="tower")
    joined = L.Concatenate()([tower(left), tower(right)])
    model = keras.Model([left, right], L.Dense(3, name="head")(joined))
    architecture, offered = advice(model, VANISHING)
    assert "residual" in offered
    assert "in forward, x = x + f(x)" in offered["residual"].code
    for one in offered.values():
        in_keras(one, architecture)
