"""Keras models translated to specs, against Keras itself: outputs, gradients, initialization."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from service.domain.architecture import resolve
from service.domain.keras import translate
from service.probing.loaders.spec import build
from tests.probing.keras_weights import L, assert_same, keras


def mlp() -> Any:
    return keras.Sequential(
        [
            L.Input((6,)),
            L.Dense(8, activation="leaky_relu"),
            L.LayerNormalization(),
            L.Dense(8, activation="hard_sigmoid"),
            L.BatchNormalization(),
            L.Dense(8, use_bias=False),
            L.ReLU(max_value=2.0),
            L.Dense(3, activation="softmax"),
        ]
    )


def images() -> Any:
    x = given = L.Input((9, 11, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="gelu")(x)
    x = y = L.BatchNormalization()(x)
    y = L.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, activation="elu")(y)
    y = L.DepthwiseConv2D(4, padding="same", activation="selu")(y)
    x = L.Add()([x, y])
    x = L.MaxPooling2D(3, strides=2, padding="same")(x)
    x = L.Concatenate()([x, x])
    x = L.GroupNormalization(4)(x)
    x = L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="softplus")(x)
    x = L.AveragePooling2D(2, padding="same")(x)
    x = L.Conv2D(4, 2, dilation_rate=2, activation="softmax")(L.ZeroPadding2D(((1, 0), (2, 1)))(x))
    return keras.Model(given, L.Dense(3)(L.Flatten()(x)))


def sequences() -> Any:
    x = given = L.Input((7,))
    x = L.Embedding(11, 6)(x)
    x = L.GRU(5, return_sequences=True)(x)
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(x)
    x = L.Multiply()([x, x])
    x = L.SimpleRNN(6, return_sequences=True, activation="relu")(x)
    return keras.Model(given, L.Dense(2)(L.LSTM(4)(x)))


def pooled(layer: Any, window: int, stride: int, steps: int) -> Any:
    return keras.Sequential(
        [
            L.Input((steps, 3)),
            L.GRU(4, return_sequences=True),
            layer(window, strides=stride, padding="same"),
            L.LSTM(2),
        ]
    )


def words() -> Any:
    return keras.Sequential(
        [
            L.Input((10,)),
            L.Embedding(11, 6),
            L.Conv1D(8, 3, strides=2, padding="same", activation="silu"),
            L.Conv1D(4, 2, padding="causal", activation="tanh"),
            L.GlobalMaxPooling1D(),
            L.Dense(2, activation="sigmoid"),
        ]
    )


def signals() -> Any:
    return keras.Sequential(
        [
            L.Input((12, 3)),
            L.Conv1D(8, 3, groups=1, activation="softsign"),
            L.MaxPooling1D(2),
            L.Dense(5, activation="mish"),
            L.GlobalAveragePooling1D(),
            L.Dense(2),
        ]
    )


def volumes() -> Any:
    return keras.Sequential(
        [
            L.Input((5, 6, 7, 2)),
            L.Conv3D(4, 3, padding="same", activation="relu6"),
            L.AveragePooling3D(2),
            L.GlobalMaxPooling3D(),
            L.Dense(2),
        ]
    )


def two_inputs() -> Any:
    """A layer used by both, a model used by both, and once more on what they give."""
    left, right = L.Input((6,), name="left"), L.Input((6,), name="right")
    shared = L.Dense(6, activation="tanh", name="shared")
    inner = keras.Sequential([L.Input((6,)), L.Dense(5, name="a"), L.BatchNormalization()])
    a, b = shared(left), shared(L.Subtract()([left, right]))
    c = shared(L.Average()([a, b, right]))
    joined = L.Concatenate()([inner(a), inner(c), L.Dot(axes=-1)([a, c])])
    return keras.Model([left, right], L.Dense(2, activation=L.LeakyReLU(0.1))(joined))


def transformer() -> Any:
    tokens = L.Input((7,), dtype="int32")
    x = L.Embedding(11, 8)(tokens)
    for _ in range(2):
        seen = L.MultiHeadAttention(2, 4)(x, x, key=None, use_causal_mask=True)
        x = L.LayerNormalization()(L.Add()([x, seen]))
        grown = L.TimeDistributed(L.Dense(16, activation="gelu"))(x)
        x = L.RMSNormalization()(L.Add()([x, L.Dense(8)(grown)]))
    read = L.MultiHeadAttention(4, 2)(L.Dense(8)(x), value=x, key=L.Dense(8)(x))
    return keras.Model(tokens, L.Dense(3)(L.GlobalAveragePooling1D()(read)))


def merged() -> Any:
    """Maximum, minimum, a vector repeated, an image cropped and scaled."""
    x = given = L.Input((7, 9, 3))
    x = L.Rescaling(1 / 127.5, offset=-1.0)(L.Cropping2D(((1, 0), (2, 1)))(x))
    x = L.Conv2D(4, 3, activation="exponential")(x)
    y = L.Conv2D(4, 3, padding="same", activation="squareplus")(x)
    z = L.Maximum()([x, y, L.Minimum()([x, y])])
    z = L.Flatten()(L.AdaptiveAveragePooling2D((2, 3))(z))
    z = L.RepeatVector(5)(L.Dense(6, activation="sparse_plus")(z))
    z = L.Masking()(z)
    return keras.Model(given, L.Dense(4, activation="glu")(L.LSTM(4)(z)))


MODELS = [mlp, images, sequences, words, signals, volumes, two_inputs, transformer, merged]


@pytest.mark.parametrize("make", MODELS, ids=[one.__name__ for one in MODELS])
def test_outputs_and_gradients_are_keras_own(make: Any) -> None:
    keras.utils.set_random_seed(0)
    assert_same(make())


PADDED = [(3, 1, 4), (2, 2, 5), (2, 3, 7)]
"""Window, stride and steps. An average over three steps by two is not among them: on torch Keras
repeats the last step there, elsewhere it pads, as the spec does."""


@pytest.mark.parametrize(
    ("layer", "window", "stride", "steps"),
    [
        (L.MaxPooling1D, 3, 2, 4),
        *((layer, *sizes) for layer in (L.MaxPooling1D, L.AveragePooling1D) for sizes in PADDED),
    ],
)
def test_sequences_are_padded_as_keras_does(
    layer: Any, window: int, stride: int, steps: int
) -> None:
    keras.utils.set_random_seed(0)
    assert_same(pooled(layer, window, stride, steps))


INITIALIZERS = ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
                "lecun_normal", "random_normal", "truncated_normal", "orthogonal"]  # fmt: skip


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("kind", ["dense", "conv", "depthwise"])
def test_initializers_draw_alike(kind: str, name: str) -> None:
    """Standard deviation and largest value of many weights."""
    made = {
        "dense": lambda: [L.Input((300,)), L.Dense(200, kernel_initializer=name)],
        "conv": lambda: [L.Input((5, 5, 60)), L.Conv2D(80, 3, kernel_initializer=name)],
        "depthwise": lambda: [
            L.Input((5, 5, 800)),
            L.DepthwiseConv2D(3, depth_multiplier=4, depthwise_initializer=name),
        ],
    }
    if (kind, name) == ("depthwise", "orthogonal"):
        name = "random_uniform"  # orthogonal is refused: Keras takes another matrix there
    keras.utils.set_random_seed(0)
    model = keras.Sequential(made[kind]())
    torch.manual_seed(0)
    (network,) = build(resolve(translate(json.loads(model.to_json())).spec)).children()
    own, theirs = network.get_parameter("weight"), model.layers[0].trainable_weights[0].value
    assert own.std().item() == pytest.approx(theirs.std().item(), rel=0.03)
    if "orthogonal" not in name and name not in ("random_normal",):
        assert own.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.01)
