"""Every name of keras.activations, keras.initializers and keras.layers: translated, and then alike,
or refused in words that name it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.domain.architecture import resolve
from service.domain.errors import InvalidRequest
from service.domain.keras import translate
from service.domain.keras.translation import TRANSLATORS
from service.probing.loaders.spec import build
from tests.probing.keras_weights import L, assert_same, keras

AROUND = {"get", "serialize", "deserialize"}
"""Functions of the modules that are none of what they hold."""


def sequential(*layers: dict[str, Any], shape: Any = (8,), version: int = 3) -> dict[str, Any]:
    given = {"class_name": "InputLayer", "config": {"name": "given", "batch_shape": [None, *shape]}}
    model = {"class_name": "Sequential", "config": {"layers": [given, *layers]}}
    return model | ({"module": "keras"} if version == 3 else {"keras_version": "2.15.0"})


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "it", **config}}


def network_of(model: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return build(resolve(translate(model).spec))


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def refusal(model: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        translate(model)
    return caught.value.detail


ACTIVATIONS = sorted(set(dir(keras.activations)) - AROUND)
ACTIVATIONS = [one for one in ACTIVATIONS if not one.startswith("_")]
REFUSED_ACTIVATIONS = {"threshold": "needs arguments", "sparsemax": "no probabilities"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    model = sequential(layer("Dense", units=8), layer("Activation", activation=name))
    model["config"]["layers"][1]["config"]["name"] = "fc"
    if name in REFUSED_ACTIVATIONS:
        assert f"{name!r} is not supported: " in refusal(model)
        assert REFUSED_ACTIVATIONS[name] in refusal(model)
        return
    network = network_of(model)
    assert (len([*network.children()]) == 1) == (name == "linear")
    x = torch.linspace(-7.3, 7.7, 400).view(50, 8)
    given, expected = (x.clone().requires_grad_() for _ in range(2))
    network.fc.weight.data, network.fc.bias.data = torch.eye(8), torch.zeros(8)
    ours, theirs = network(given), getattr(keras.activations, name)(expected)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    weights = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(given.grad, expected.grad, atol=1e-4, rtol=1e-4)


def test_why_sparsemax_is_refused() -> None:
    """When this fails Keras has mended it, and it can be translated."""
    given = keras.activations.sparsemax(torch.tensor([[1.0, 0.9, 0.8]]))
    assert given.sum().item() < 0.5


def test_hard_sigmoid_of_keras_2() -> None:
    network = network_of(sequential(layer("Activation", activation="hard_sigmoid"), version=2))
    x = torch.linspace(-4, 4, 64).view(8, 8)
    torch.testing.assert_close(network(x), (0.2 * x + 0.5).clamp(0, 1))


INITIALIZERS = [
    one for one in dir(keras.initializers)
    if not one.startswith("_") and one not in AROUND | {"Initializer"}
]  # fmt: skip
REFUSED_INITIALIZERS = {"STFT", "STFTInitializer", "stft"}
GIVEN: dict[str, dict[str, Any]] = {"Constant": {"value": 0.3}, "constant": {"value": 0.3}}
"""Arguments without which nothing would be told apart."""
CONFIGURED: list[tuple[str, dict[str, Any]]] = [
    *(
        ("VarianceScaling", {"scale": 1.7, "mode": mode, "distribution": distribution})
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "untruncated_normal", "uniform")
    ),
    ("TruncatedNormal", {"mean": 0.4, "stddev": 0.3}),
    ("RandomNormal", {"mean": -0.2, "stddev": 0.7}),
    ("RandomUniform", {"minval": -0.1, "maxval": 0.6}),
    ("Orthogonal", {"gain": 1.6}),
]


@pytest.mark.parametrize(
    ("name", "config"), [(one, GIVEN.get(one, {})) for one in INITIALIZERS] + CONFIGURED
)
def test_every_initializer(name: str, config: dict[str, Any]) -> None:
    """Mean, spread and ends of 60,000 weights; of an orthogonal matrix that it is one."""
    said = {"class_name": name, "config": config}
    model = sequential(layer("Dense", units=200, kernel_initializer=said), shape=(300,))
    if name in REFUSED_INITIALIZERS:
        assert f"initializer {name.lower()[:4]}" in refusal(model).lower()
        return
    keras.utils.set_random_seed(0)
    theirs: Tensor = getattr(keras.initializers, name)(**config)((300, 200)).detach()
    ours = network_of(model).it.weight.detach().T
    spread = theirs.std().item()
    assert ours.std().item() == pytest.approx(spread, rel=0.02, abs=1e-6)
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.02 * spread + 1e-6)
    if "random_normal" not in snake(name) and config.get("distribution") != "untruncated_normal":
        reach = (theirs - theirs.mean()).abs().max().item()
        assert (ours - ours.mean()).abs().max().item() == pytest.approx(reach, rel=0.1)
    if "rthogonal" in name:
        gain = config.get("gain", 1.0)
        torch.testing.assert_close(ours.T @ ours, gain**2 * torch.eye(200), atol=1e-4, rtol=0)


def test_cut_normals_end_where_keras_cuts() -> None:
    """Two standard deviations, widened for what the cut takes away."""
    for name, std in (("HeNormal", (2 / 300) ** 0.5 / 0.87962566), ("TruncatedNormal", 0.05)):
        model = sequential(layer("Dense", units=200, kernel_initializer=name), shape=(300,))
        most = network_of(model).it.weight.abs().max().item()
        assert 1.98 * std < most <= 2 * std * 1.0001


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ({"class_name": "Identity", "config": {"gain": 2.0}}, "the initializer identity"),
        ({"class_name": "Constant", "config": {"value": [1, 2]}}, "the initializer constant"),
        ({"class_name": "VarianceScaling", "config": {"mode": "most"}}, "the mode most"),
        ({"class_name": "Own", "config": {}}, "the initializer own"),
    ],
)
def test_other_initializers_are_refused(said: dict[str, Any], detail: str) -> None:
    assert detail in refusal(sequential(layer("Dense", units=8, kernel_initializer=said)))


NOT_LAYERS = {"Input", "InputSpec", "Layer", "Wrapper"}
CLASSES = {
    member.__name__
    for name, member in vars(L).items()
    if inspect.isclass(member) and name not in NOT_LAYERS
}
IMAGE, SERIES, VECTOR, VOLUME = (6, 9, 5), (9, 4), (8,), (4, 5, 6, 3)


def samples() -> Iterator[tuple[str, Any, Any]]:
    """One of each type that is translated: name, how it is made, what it takes."""
    for sides, shape in ((1, (12, 3)), (2, IMAGE), (3, VOLUME)):
        for name, args in (
            (f"Conv{sides}D", (4, 2)),
            (f"Conv{sides}DTranspose", (4, 2)),
            (f"MaxPooling{sides}D", ()),
            (f"AveragePooling{sides}D", (2,)),
            (f"GlobalMaxPooling{sides}D", ()),
            (f"GlobalAveragePooling{sides}D", ()),
            (f"AdaptiveMaxPooling{sides}D", (2,)),
            (f"AdaptiveAveragePooling{sides}D", (2,)),
            (f"ZeroPadding{sides}D", (1,)),
            (f"Cropping{sides}D", (1,)),
            (f"UpSampling{sides}D", (2,)),
            (f"SpatialDropout{sides}D", (0.0,)),
        ):
            yield name, args, shape
    for sides, shape in ((1, (12, 3)), (2, IMAGE)):
        yield f"DepthwiseConv{sides}D", (2,), shape
        yield f"SeparableConv{sides}D", (4, 2), shape
    yield from (
        ("Dense", (4,), VECTOR), ("Embedding", (11, 4), (5,)), ("Flatten", (), IMAGE),
        ("Reshape", ((2, 2, 2),), VECTOR), ("RepeatVector", (3,), VECTOR),
        ("Rescaling", (0.5, 1.0), VECTOR), ("Dropout", (0.0,), VECTOR),
        ("AlphaDropout", (0.0,), VECTOR), ("Identity", (), VECTOR), ("Masking", (), SERIES),
        ("ActivityRegularization", (), VECTOR), ("BatchNormalization", (), IMAGE),
        ("LayerNormalization", (), SERIES), ("RMSNormalization", (), SERIES),
        ("SimpleRNN", (4,), SERIES), ("GRU", (4,), SERIES), ("LSTM", (4,), SERIES),
        ("Activation", ("tanh",), VECTOR), ("ReLU", (2.0,), VECTOR), ("LeakyReLU", (), VECTOR),
        ("PReLU", (), VECTOR), ("ELU", (0.7,), VECTOR), ("Softmax", (), SERIES),
    )  # fmt: skip


ONES = {name: (args, shape) for name, args, shape in samples()}
MERGES = ("Add", "Multiply", "Subtract", "Average", "Maximum", "Minimum", "Concatenate")
OTHERS = {"GroupNormalization", "Bidirectional", "TimeDistributed", "MultiHeadAttention", "Dot"}
"""Made with more than numbers: in the models of test_keras.py."""


@pytest.mark.parametrize("name", sorted(ONES))
def test_every_layer_alone(name: str) -> None:
    args, shape = ONES[name]
    dtype = "int32" if name == "Embedding" else "float32"
    keras.utils.set_random_seed(0)
    x = given = L.Input(shape, dtype=dtype)
    x = getattr(L, name)(*args)(x)
    if name in ("Identity", "Masking", "ActivityRegularization", "Flatten"):
        x = L.Dense(3)(x)  # a network has a layer; Flatten counts its units in another order
    assert_same(keras.Model(given, x))


@pytest.mark.parametrize("name", MERGES)
def test_every_merge_of_three(name: str) -> None:
    inputs = [L.Input(VECTOR, name=one) for one in "abc"]
    given = inputs[:2] if name == "Subtract" else inputs
    assert_same(keras.Model(given, getattr(L, name)()(given)))


def test_every_layer_is_in_one_of_the_lists() -> None:
    assert set(TRANSLATORS) == set(ONES) | set(MERGES) | OTHERS
    assert set(TRANSLATORS) <= CLASSES


@pytest.mark.parametrize("name", sorted(CLASSES - set(TRANSLATORS) - {"InputLayer"}))
def test_every_other_layer_is_refused_by_name(name: str) -> None:
    detail = refusal(sequential(layer(name)))
    assert f"`it` ({name})" in detail
    assert "not supported" in detail


def test_a_keras_model_says_the_same_in_json_and_here() -> None:
    """The hand-made JSON of this page is what Keras writes."""
    made = keras.Sequential([L.Input((8,)), L.Dense(3, activation="hard_sigmoid", name="it")])
    written = json.loads(made.to_json())
    ours = sequential(layer("Dense", units=3, activation="hard_sigmoid"))
    assert translate(written).spec["layers"] == translate(ours).spec["layers"]


def test_the_page_names_all_that_is_translated_and_nothing_else() -> None:
    text = (Path(__file__).parents[2] / "docs" / "keras.md").read_text("utf-8")
    words = set(re.findall(r"\w+", text.partition("## What is translated")[2]))
    functions = {one for one in ACTIVATIONS if one not in REFUSED_ACTIVATIONS}
    drawn = {one for one in INITIALIZERS if one[0].isupper() and "Initializer" not in one}
    assert (set(TRANSLATORS) | functions | drawn) - words == set()
    table = set(re.findall(r"\w+", text.partition("| kind |")[2].partition("\n\n")[0]))
    assert table & CLASSES - set(TRANSLATORS) == set()
