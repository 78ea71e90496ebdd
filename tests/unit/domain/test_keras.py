"""Keras models as JSON: what is read, and what is refused with the layer and its argument."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from service.domain.architecture import resolve
from service.domain.errors import InvalidRequest
from service.domain.keras import translate


def layer(kind: str, name: str = "x", **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **config}}


def sequential(*layers: dict[str, Any], shape: Any = (4,), **said: Any) -> dict[str, Any]:
    given = layer("InputLayer", "given", batch_shape=[None, *shape])
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": [given, *layers]},
            **said}  # fmt: skip


DENSE = layer("Dense", "fc", units=3)


def refused(model: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        translate(model)
    return caught.value


def test_a_sequential_model() -> None:
    found = translate(
        sequential(
            layer("Dense", "fc1", units=8, activation="relu", kernel_initializer="he_uniform"),
            layer("Dense", "fc2", units=3),
        )
    )
    assert found.spec["input"] == {"shape": [4], "dtype": "float32"}
    assert [(one["name"], one["type"]) for one in found.spec["layers"]] == [
        ("fc1", "Linear"),
        ("fc1_relu", "ReLU"),
        ("fc2", "Linear"),
    ]
    weights = [one.get("init", {}).get("weight") for one in found.spec["layers"]]
    assert weights[0]["args"]["b"] == pytest.approx((6 / 4) ** 0.5)
    assert weights[2] == {"name": "xavier_uniform_", "args": {}}
    assert found.notes == ()
    assert resolve(found.spec).layers[-1].output_shape == (3,)


def test_keras_2() -> None:
    """Keras 2: batch_input_shape at the first layer, calls as [name, 0, 0, {}]."""
    plain = {
        "class_name": "Sequential",
        "config": {"layers": [layer("Dense", "fc", units=2, batch_input_shape=[None, 4])]},
        "keras_version": "2.15.0",
    }
    assert translate(plain).spec["layers"][0]["type"] == "Linear"
    entries = [
        {**layer("InputLayer", "i", batch_input_shape=[None, 4]), "name": "i", "inbound_nodes": []},
        {**layer("Dense", "a", units=4), "name": "a", "inbound_nodes": [[["i", 0, 0, {}]]]},
        {**layer("Add", "s"), "name": "s", "inbound_nodes": [[["i", 0, 0, {}], ["a", 0, 0, {}]]]},
    ]
    network = {
        "class_name": "Functional",
        "config": {
            "layers": entries,
            "input_layers": [["i", 0, 0]],
            "output_layers": [["s", 0, 0]],
        },
    }
    assert translate(network).spec["layers"][1]["inputs"] == ["input", "a"]
    hard = sequential(layer("Activation", "h", activation="hard_sigmoid"), DENSE)
    del hard["module"]
    assert "Keras 2" in refused(hard).detail


def test_images_come_channels_first() -> None:
    found = translate(
        sequential(layer("Conv2D", "c", filters=2, kernel_size=[3, 3]), DENSE, shape=(8, 9, 3))
    )
    assert found.spec["input"]["shape"] == [3, 8, 9]
    own = sequential(
        layer("Conv2D", "c", filters=2, kernel_size=[3, 3], data_format="channels_first"),
        shape=(3, 8, 9),
    )
    assert translate(own).spec["input"]["shape"] == [3, 8, 9]


def test_what_has_no_place_is_noted() -> None:
    penalty = {"class_name": "L2", "config": {"l2": 0.01}}
    (note,) = translate(sequential(layer("Dense", "fc", units=3, kernel_regularizer=penalty))).notes
    assert note == "keras: layer `fc`: kernel_regularizer not translated"


@pytest.mark.parametrize(
    ("model", "pointer", "said"),
    [
        (sequential(layer("Lambda", "f")), "/config/layers/1/config", "`f` (Lambda)"),
        (
            sequential(layer("Dense", "fc", units=3, activation="exponential")),
            "/config/layers/1/config/activation",
            "'exponential' is not supported",
        ),
        (
            sequential(DENSE, layer("Dense", "b", units=-1)),
            "/config/layers/2/config/units",
            "positive integer",
        ),
        (
            sequential(layer("Dense", "b", units=2, kernel_initializer="fancy")),
            "/config/layers/1/config/kernel_initializer",
            "fancy",
        ),
        (
            sequential(layer("GRU", "r", units=2, reset_after=False), shape=(5, 3)),
            "/config/layers/1/config/reset_after",
            "reset_after=True",
        ),
        (sequential(layer("LSTM", "r", units=2)), "/config/layers/1/config", "(time, features)"),
        (sequential(DENSE, shape=(None,)), "/config/layers/0/config/batch_shape", "must be known"),
        (sequential(layer("Add", "a")), "/config/layers/1/config", "two inputs"),
        (sequential(), "/config/layers/0/config", "output is not its last layer"),
        (
            sequential(layer("Conv2D", "c", filters=2, kernel_size=[9, 9]), shape=(4, 4, 1)),
            "/config/layers/1/config",
            "`c` (Conv2D)",
        ),
        (
            sequential(DENSE, layer("Embedding", "e", input_dim=5, output_dim=2)),
            "/config/layers/2/config",
            "integers",
        ),
        ({"class_name": "Model2"}, "/class_name", "Sequential or functional"),
        ({"class_name": "Sequential", "config": {"layers": 3}}, "/config/layers", "list of layers"),
    ],
)
def test_what_cannot_be_translated_names_its_layer(model: Any, pointer: str, said: str) -> None:
    error = refused(model)
    assert said in error.detail
    assert [fault.pointer for fault in error.faults] == [pointer]


WRONG: list[Any] = [None, 3, -1, 1e400, "x", [], {}, [[]], {"class_name": 3}, True]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_nothing_wrong_in_a_config_is_more_than_refused(wrong: Any) -> None:
    model = sequential(
        layer("Conv2D", "c", filters=2, kernel_size=[3, 3], strides=[1, 1], activation="relu"),
        layer("BatchNormalization", "n", axis=-1, momentum=0.9, epsilon=1e-3),
        layer("MaxPooling2D", "p", pool_size=[2, 2], strides=None, padding="same"),
        layer("ReLU", "r", max_value=None, negative_slope=0.0, threshold=0.0),
        layer("Flatten", "f"),
        layer("Dropout", "d", rate=0.5),
        layer("Dense", "fc", units=3, kernel_initializer={"class_name": "VarianceScaling",
              "config": {"scale": 1.0, "mode": "fan_in", "distribution": "uniform"}}),
        shape=(8, 8, 3),
    )  # fmt: skip
    assert translate(model)
    text = json.dumps(model)
    for index, one in enumerate(model["config"]["layers"]):
        for name in one["config"]:
            changed = json.loads(text)
            changed["config"]["layers"][index]["config"][name] = wrong
            with suppress(InvalidRequest):
                resolve(translate(changed).spec)


def test_calls_that_are_no_calls_are_refused() -> None:
    for nodes in (3, [3], [{"args": [{"class_name": "__keras_tensor__"}]}], [[["i", 0]]], [["i"]]):
        entries = [
            {**layer("InputLayer", "i", batch_shape=[None, 4]), "name": "i", "inbound_nodes": []},
            {**DENSE, "name": "fc", "inbound_nodes": nodes},
        ]
        config = {"layers": entries, "input_layers": ["i", 0, 0], "output_layers": ["fc", 0, 0]}
        assert refused({"class_name": "Functional", "config": config}).faults
