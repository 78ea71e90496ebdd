"""Keras models as JSON: what is read, and what is refused with the layer and its argument."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from itertools import pairwise
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
    first = translate(hard).spec["layers"][0]
    assert (first["type"], first["args"]) == ("Scale", {"factor": 1.2})


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


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"l2": 0.01}, "L2(l2=0.01) is left out of the loss; its l2 is weight_decay=0.02 of SGD"),
        ({"l1": 0.1}, "L1(l1=0.1) is left out of the loss"),
        ({"l1": 0.1, "l2": 0.5}, "L1L2(l1=0.1, l2=0.5) is left out of the loss; its l2 is weight"),
    ],
)
def test_penalties_are_told_with_the_weight_decay_that_is_the_same(
    config: dict[str, float], said: str
) -> None:
    penalty = {"class_name": "".join(config).upper(), "config": config}
    layers = [layer("Dense", f"fc{n}", units=3, kernel_regularizer=penalty) for n in range(5)]
    (note,) = translate(sequential(*layers)).notes
    assert note.startswith("keras: layers `fc0`, `fc1`, `fc2` … (5): kernel_regularizer " + said)
    cell = {"units": 3, "recurrent_constraint": {"class_name": "MaxNorm", "config": {}}}
    both = layer("GRU", "g", return_sequences=True, **cell)
    for one in (layer("GRU", "r", **cell), layer("Bidirectional", "r", layer=both)):
        assert translate(sequential(one, shape=(4, 2))).notes == (
            "keras: layer `r`: recurrent_constraint MaxNorm() is left out of the steps",
        )


def test_what_is_trained_here_and_not_in_keras_is_told() -> None:
    frozen = [layer("Dense", f"fc{n}", units=3, trainable=False) for n in range(2)]
    layers = [
        *frozen,
        layer("ReLU", "act", trainable=False),
        layer("Dense", "low", units=3, lora_rank=2),
    ]
    assert translate(sequential(*layers)).notes == (
        "keras: layers `fc0`, `fc1`: trainable=False: it is measured and trained like any other",
        "keras: layer `low`: lora_rank is left out: the kernel itself is measured and trained",
    )


@pytest.mark.parametrize(
    ("model", "pointer", "said"),
    [
        (sequential(layer("Lambda", "f")), "/config/layers/1/config", "`f` (Lambda)"),
        (
            sequential(layer("Dense", "fc", units=3, activation="my_own")),
            "/config/layers/1/config/activation",
            "'my_own' is not supported",
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
        (
            sequential(
                layer(
                    "Bidirectional",
                    "r",
                    layer=layer("GRU", "forward", units=2, return_sequences=True),
                    backward_layer=layer(
                        "GRU", "back", units=3, return_sequences=True, go_backwards=True
                    ),
                ),
                shape=(5, 3),
            ),
            "/config/layers/1/config/backward_layer",
            "made alike",
        ),
        (
            sequential(layer("Dropout", "d", rate=0.5, noise_shape=[None, 1])),
            "/config/layers/1/config/noise_shape",
            "another shape",
        ),
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


def tensor(name: str, use: int = 0) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, use, 0]}}


def called(entry: dict[str, Any], *calls: list[Any], **keywords: Any) -> dict[str, Any]:
    nodes = [{"args": call, "kwargs": keywords} for call in calls]
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": nodes}


def functional(*entries: dict[str, Any], outputs: Any, inputs: Any = None) -> dict[str, Any]:
    inputs = inputs or [[one["name"], 0, 0] for one in entries if one["class_name"] == "InputLayer"]
    config = {"layers": list(entries), "input_layers": inputs, "output_layers": outputs}
    return {"module": "keras", "class_name": "Functional", "config": config}


A = called(layer("InputLayer", "a", batch_shape=[None, 4]))
B = called(layer("InputLayer", "b", batch_shape=[None, 4]))
TWICE = called(layer("Dense", "fc", units=3, activation="relu"), [tensor("a")], [tensor("b")])
JOIN = called(layer("Concatenate", "j"), [[tensor("fc"), tensor("fc", 1)]])


def test_several_inputs_and_a_layer_used_twice() -> None:
    given = functional(A, TWICE, B, JOIN, outputs=["j", 0, 0], inputs=[["b", 0, 0], ["a", 0, 0]])
    spec = translate(given).spec
    assert [one["name"] for one in spec["input"]] == ["b", "a"]
    assert [(one["name"], one.get("shares"), one["inputs"]) for one in spec["layers"]] == [
        ("fc", None, ["a"]),
        ("fc_relu", None, ["fc"]),
        ("fc_2", "fc", ["b"]),
        ("fc_relu_2", None, ["fc_2"]),
        ("j", None, ["fc_relu", "fc_relu_2"]),
    ]
    assert resolve(spec).size == 15


def test_nested_models_are_taken_apart() -> None:
    inner = functional(A, called(DENSE, [tensor("a")]), outputs=[["fc", 0, 0]])
    inner["config"]["name"] = inner["name"] = "inner"
    calls = {"inbound_nodes": [{"args": [tensor("a")]}, {"args": [tensor("b")]}]}
    join = called(layer("Add", "s"), [tensor("inner"), tensor("inner", 1)])
    spec = translate(functional(A, B, inner | calls, join, outputs=["s", 0, 0])).spec
    assert [(one["name"], one.get("shares")) for one in spec["layers"]] == [
        ("inner-fc", None),
        ("inner-fc_2", "inner-fc"),
        ("s", None),
    ]
    chain = sequential(sequential(DENSE) | {"name": "one"}, layer("Dense", "end", units=2))
    assert [one["name"] for one in translate(chain).spec["layers"]] == ["one-fc", "end"]
    dashed = sequential(
        sequential(DENSE) | {"name": "one"},
        layer("Dense", "one-fc", units=2),
        layer("Dense", "one_fc", units=2),
    )
    layers = translate(dashed).spec["layers"]
    assert [one["name"] for one in layers] == ["one-fc", "one_fc", "one_fc_2"]
    assert not any("shares" in one for one in layers)
    wrong = sequential(sequential(layer("Dense", "fc", units=-1)) | {"name": "one"}, DENSE)
    assert "layer `one-fc` (Dense)" in refused(wrong).detail
    deep = sequential(DENSE)
    for depth in range(20):
        deep = sequential(deep | {"name": f"m{depth}"})
    assert "nested 16 deep" in refused(deep).detail


def test_models_that_grow_by_nesting_are_stopped() -> None:
    """Eight uses at each of twelve levels, of a model that does nothing."""
    grown = functional(A, outputs=["a", 0, 0])
    for level in range(12):
        name = f"m{level}"
        before = [tensor("a"), *(tensor(name, use) for use in range(7))]
        calls = [{"args": [one]} for one in before]
        inner = grown | {"name": name, "inbound_nodes": calls}
        grown = functional(A, inner, outputs=[name, 7, 0])
    begun = time.process_time()
    assert "nested models have more than" in refused(grown).detail
    assert time.process_time() - begun < 10
    many = [called(layer("InputLayer", f"i{n}", batch_shape=[None, 4])) for n in range(17)]
    assert "1 to 16 inputs" in refused(functional(*many, outputs=["i0", 0, 0])).detail


def test_masks_that_keras_adds_are_left_out_and_noted() -> None:
    words = called(layer("InputLayer", "a", batch_shape=[None, 6], dtype="int32"))
    entries = (
        words,
        called(layer("Embedding", "e", input_dim=9, output_dim=4, mask_zero=True), [tensor("a")]),
        called(layer("NotEqual", "mask"), [tensor("a"), 0]),
        called(layer("GRU", "r", units=3), [tensor("e")], mask=tensor("mask")),
    )
    found = translate(functional(*entries, outputs=["r", 0, 0]))
    assert [one["name"] for one in found.spec["layers"]] == ["e", "r", "r_last"]
    assert any("`r`: its mask is not translated" in note for note in found.notes)
    seen = layer("MultiHeadAttention", "m", num_heads=2, key_dim=2)
    own = called(seen, [tensor("e"), tensor("e")], attention_mask=tensor("mask"))
    wrong = functional(*entries[:3], own, outputs=["m", 0, 0])
    assert "`mask` (NotEqual)" in refused(wrong).detail


def test_the_inputs_of_a_model_are_its_input_layers() -> None:
    error = refused(functional(A, TWICE, B, outputs=["fc", 0, 0], inputs=[["a", 0, 0]]))
    assert "`input_layers` names ['a'], the input layers are ['a', 'b']" in error.detail


@pytest.mark.parametrize(
    ("entries", "outputs", "pointer", "said"),
    [
        ((A, TWICE, B), [["fc", 0, 0], ["fc", 1, 0]], "/config/output_layers", "several outputs"),
        ((A, TWICE, B), [["no", 0, 0]], "/config/output_layers", "no layer 'no'"),
        (
            (A, called(DENSE, [tensor("later")])),
            ["fc", 0, 0],
            "/config/layers/1/inbound_nodes",
            "`later`, which does not come before it",
        ),
        (
            (A, called(layer("Add", "s"), [tensor("a"), tensor("s")])),
            ["s", 0, 0],
            "/config/layers/1/inbound_nodes",
            "`s`, which does not come before it",
        ),
        ((A, A, TWICE, B), ["fc", 0, 0], "/config/layers/1/name", "two layers are called `a`"),
        ((A, TWICE, {**JOIN, "name": "fc"}), ["fc", 0, 0], "/config/layers/2/name", "two layers"),
        (
            (A, called(layer("InputLayer", "b", batch_shape=[None, 7, 4])), TWICE, JOIN),
            ["j", 0, 0],
            "/config/layers/3/config",
            "`j` (Concatenate)",
        ),
        (
            (
                A,
                called(layer("InputLayer", "b", batch_shape=[None, 7, 7, 4])),
                called(layer("Conv2D", "c", filters=4, kernel_size=[1, 1]), [tensor("b")]),
                called(layer("Dense", "fc", units=3), [tensor("a")], [tensor("c")]),
                called(layer("GlobalMaxPooling2D", "g"), [tensor("fc", 1)]),
                called(layer("Add", "s"), [[tensor("g"), tensor("fc")]]),
            ),
            ["s", 0, 0],
            "/config/layers/3/config",
            "used again on an input of another kind",
        ),
    ],
)
def test_functional_models_that_cannot_be_translated(
    entries: Any, outputs: Any, pointer: str, said: str
) -> None:
    error = refused(functional(*entries, outputs=outputs))
    assert said in error.detail
    assert [fault.pointer for fault in error.faults] == [pointer]


def test_three_thousand_layers_backwards_are_ordered_at_once() -> None:
    names = ["a", *(f"l{n}" for n in range(3_000))]
    chain = [
        called(layer("Dense", name, units=2), [tensor(above)]) for above, name in pairwise(names)
    ]
    begun = time.process_time()
    found = translate(functional(*reversed(chain), A, outputs=[names[-1], 0, 0]))
    assert [one["name"] for one in found.spec["layers"]] == names[1:]
    assert time.process_time() - begun < 10
