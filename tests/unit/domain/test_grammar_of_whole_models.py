"""Several inputs, shared layers, parameters of their own, masks and computed weights."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.architecture import Architecture, resolve
from service.domain.errors import InvalidRequest
from service.domain.expanded import expanded

Spec = dict[str, Any]
IMAGE = {"name": "image", "shape": [8]}
TEXT = {"name": "text", "shape": [4], "dtype": "int64"}
NORMAL = {"weight": {"name": "normal_"}}


def linear(out: int, **fields: Any) -> Spec:
    return {"type": "Linear", "args": {"out_features": out}, **fields}


def embedding(rows: int, **fields: Any) -> Spec:
    return {"type": "Embedding", "args": {"num_embeddings": rows, "embedding_dim": 8}, **fields}


def network(*layers: Spec, given: Any = None) -> Architecture:
    return resolve({"input": given or {"shape": [8]}, "layers": list(layers)})


def fault(*layers: Spec, given: Any = None) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        network(*layers, given=given)
    assert len(caught.value.faults) == 1, caught.value.faults
    return caught.value.faults[0].pointer, caught.value.faults[0].detail


def test_each_input_is_read_by_its_name_and_integers_end_at_their_own_table() -> None:
    found = network(
        embedding(20, name="words", inputs=["text"]),
        {"name": "last", "type": "LastStep"},
        embedding(5, name="tag", inputs=["label"]),
        {"type": "Flatten"},
        {"type": "Concat", "inputs": ["image", "last", "layer3"]},
        linear(2),
        given=[IMAGE, TEXT, {"name": "label", "shape": [1], "dtype": "int32"}],
    )
    assert [(one.name, one.high) for one in found.inputs] == [
        ("image", None),
        ("text", 20),
        ("label", 5),
    ]
    assert found.layers[-1].args["in_features"] == 24


def test_input_is_the_first_of_several_and_the_default_of_the_first_layer() -> None:
    two = [{"name": "left", "shape": [8]}, {"name": "right", "shape": [8]}]
    found = network(
        linear(8),
        {"type": "Add", "inputs": ["layer0", "input", "right"]},
        {"layers": [linear(8, inputs=["input"]), {"type": "Add", "inputs": ["layer0", "left"]}]},
        given=two,
    )
    assert [node.inputs for node in found.layers] == [
        ("left",),
        ("layer0", "left", "right"),
        ("layer1",),
        ("layer2.layer0", "left"),
    ]


def test_names_of_inputs_become_identifiers_when_written_out() -> None:
    two = [{"name": "image-1", "shape": [8]}, {"name": "image_1", "shape": [8]}]
    written = expanded(network({"type": "Add", "inputs": ["image-1", "image_1"]}, given=two))
    assert [one["name"] for one in written["input"]] == ["image_1", "image_1_2"]
    assert written["layers"][0]["inputs"] == ["image_1", "image_1_2"]


def test_a_shared_layer_has_its_parameters_once() -> None:
    found = network(
        linear(8, name="fc", init=NORMAL),
        {"repeat": 2, "name": "more", "layers": [{"name": "again", "shares": "fc"}]},
        {"name": "last", "shares": "more.0.again"},
    )
    assert [node.shares for node in found.layers] == [None, "fc", "fc", "fc"]
    assert [len(node.parameters) for node in found.layers] == [2, 0, 0, 0]
    assert expanded(found)["layers"][1] == {
        "name": "more_0_again",
        "shares": "fc",
        "inputs": ["fc"],
    }


@pytest.mark.parametrize(
    ("layers", "pointer", "words"),
    [
        (({"shares": "no"},), "/layers/0/shares", "no earlier layer"),
        (({"shares": "input"},), "/layers/0/shares", "is what comes in"),
        (({"type": "Tanh"}, {"shares": "layer0"}), "/layers/1/shares", "has no parameters"),
        (({"name": "g", "layers": [linear(8)]}, {"shares": "g"}), "/layers/1/shares", "a group"),
        ((linear(3), {"shares": "layer0"}), "/layers/1", "takes 8 features but `layer0` gives 3"),
        ((linear(8), {"shares": "layer0", "args": {}}), "/layers/1/args", "has no field"),
        ((linear(8), {"shares": 3}), "/layers/1/shares", "a layer's name"),
    ],
)
def test_what_cannot_be_shared(layers: tuple[Spec, ...], pointer: str, words: str) -> None:
    where, detail = fault(*layers)
    assert where == pointer
    assert words in detail


def test_a_parameter_is_as_large_as_said_and_reads_what_comes_in() -> None:
    found = network(
        embedding(9, name="words"),
        {"name": "places", "type": "Parameter", "args": {"size": [4, 8]}, "init": NORMAL},
        {"type": "Add", "inputs": ["words", "places"]},
        {"name": "token", "type": "Parameter", "args": {"size": [1, 8]}, "init": NORMAL},
        {"type": "Concat", "inputs": ["token", "layer2"]},
        given={"shape": [4], "dtype": "int64"},
    )
    assert found.layers[1].inputs == ("input",)
    assert found.layers[1].parameters == {"weight": (4, 8)}
    assert found.layers[-1].output_shape == (5, 8)
    assert found.inputs[0].high == 9


def test_a_parameter_needs_an_initialization() -> None:
    where, detail = fault({"type": "Parameter", "args": {"size": [4]}})
    assert where == "/layers/0/init"
    assert "no default initialization" in detail


@pytest.mark.parametrize(
    ("layer", "pointer", "words"),
    [
        ({"type": "Linear", "args": {"out_features": 8}, "forward": {"is_causal": True}},
         "/layers/0/forward/is_causal", "has no argument"),
        ({"type": "MultiheadAttention", "args": {"num_heads": 2}, "forward": {"is_causal": 1}},
         "/layers/0/forward/is_causal", "true or false"),
        ({"type": "MultiheadAttention", "args": {"num_heads": 2, "batch_first": False},
          "forward": {"is_causal": True}}, "/layers/0/forward/is_causal", "needs `batch_first`"),
    ],
)  # fmt: skip
def test_masks_where_there_are_none(layer: Spec, pointer: str, words: str) -> None:
    where, detail = fault(layer, given={"shape": [4, 8]})
    assert where == pointer
    assert words in detail


def test_a_causal_mask_wants_as_many_keys_as_queries() -> None:
    pool = {"name": "short", "type": "LastStep"}
    more = {"name": "one", "type": "Unflatten", "args": {"dim": 1, "unflattened_size": [1, 8]}}
    attention = {
        "type": "MultiheadAttention",
        "args": {"num_heads": 2},
        "inputs": ["input", "one", "one"],
        "forward": {"is_causal": True},
    }
    where, detail = fault(pool, more, attention, given={"shape": [4, 8]})
    assert where == "/layers/2"
    assert "keys of 4 time steps" in detail


def weight(name: str, **args: Any) -> Spec:
    return linear(6, parametrizations={"weight": {"name": name, "args": args}})


def test_a_parametrized_weight_is_stored_as_what_it_is_made_of() -> None:
    (one,), (other,) = (network(weight(n)).layers for n in ("weight_norm", "spectral_norm"))
    assert one.parameters == other.parameters == {"weight": (6, 8), "bias": (6,)}
    assert one.stored == {
        "parametrizations.weight.original0": (6, 1),
        "parametrizations.weight.original1": (6, 8),
        "bias": (6,),
    }
    assert other.stored == {"parametrizations.weight.original": (6, 8), "bias": (6,)}


@pytest.mark.parametrize(
    ("layer", "below", "words"),
    [
        (weight("batch_norm"), "weight/name", "there are weight_norm, spectral_norm"),
        (weight("weight_norm", dim=2), "weight/args/dim", "out of range"),
        (weight("weight_norm", eps=1), "weight/args/eps", "has no argument"),
        (linear(6, parametrizations={"w": {"name": "weight_norm"}}), "w", "no parameter"),
        ({"type": "PReLU", "parametrizations": {"weight": {"name": "weight_norm"}}}, "weight",
         "cannot be parametrized"),
    ],
)  # fmt: skip
def test_what_cannot_be_parametrized(layer: Spec, below: str, words: str) -> None:
    where, detail = fault(layer)
    assert where == f"/layers/0/parametrizations/{below}"
    assert words in detail
