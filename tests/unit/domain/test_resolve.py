"""The grammar of architecture specs: what they mean, and what is said of wrong ones."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service.domain.architecture import Architecture, InitCall, resolve
from service.domain.errors import InvalidRequest, ShapeMismatch, UnknownLayerType

Spec = dict[str, Any]


def linear(out: int, **fields: Any) -> Spec:
    return {"type": "Linear", "args": {"out_features": out}, **fields}


def spec(*layers: Any, shape: tuple[int, ...] = (64,), **sample: Any) -> Spec:
    return {"input": {"shape": list(shape), **sample}, "layers": list(layers)}


def wiring(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    return {layer.name: layer.inputs for layer in architecture.layers}


def refusal(wrong: Spec) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        resolve(wrong)
    return caught.value


def only_fault(wrong: Spec) -> tuple[str, str]:
    (fault,) = refusal(wrong).faults
    return fault.pointer, fault.detail


class TestNames:
    def test_an_unnamed_layer_is_called_by_its_index_in_its_list(self) -> None:
        found = resolve(spec(linear(3, name="fc"), {"type": "ReLU"}, {"layers": [linear(2)]}))
        assert [layer.name for layer in found.layers] == ["fc", "layer1", "layer2.layer0"]

    def test_groups_give_paths_with_the_repetition_only_where_there_is_one(self) -> None:
        found = resolve(
            spec(
                {"name": "stem", "layers": [linear(4, name="fc")]},
                {"name": "body", "repeat": 2, "layers": [linear(4, name="fc")]},
                {"name": "once", "repeat": 1, "layers": [linear(4, name="fc")]},
            )
        )
        names = [layer.name for layer in found.layers]
        assert names == ["stem.fc", "body.0.fc", "body.1.fc", "once.0.fc"]

    @pytest.mark.parametrize("name", ["", "a.b", "a b", "a/b", "input", "x" * 101, None, 3, "a\n"])
    def test_a_bad_name_is_pointed_at(self, name: object) -> None:
        pointer, detail = only_fault(spec(linear(3, name=name)))
        assert pointer == "/layers/0/name"
        assert "name" in detail

    def test_two_layers_of_one_list_need_two_names(self) -> None:
        pointer, detail = only_fault(spec(linear(3, name="fc"), linear(3, name="fc")))
        assert (pointer, detail) == ("/layers/1/name", "two layers of one list are called `fc`")

    def test_a_given_name_may_not_be_the_automatic_one_of_another_layer(self) -> None:
        assert only_fault(spec(linear(3, name="layer1"), linear(3)))[0] == "/layers/1"

    @pytest.mark.parametrize("name", ["Größe", "conv-1", "_", "0"])
    def test_letters_digits_underscores_and_hyphens_are_fine(self, name: str) -> None:
        assert resolve(spec(linear(3, name=name))).layers[0].name == name


class TestInputs:
    def test_the_default_input_is_the_layer_above(self) -> None:
        found = resolve(
            spec(
                linear(4, name="a"),
                {"name": "g", "layers": [linear(4, name="b")]},
                linear(4, name="c"),
            )
        )
        assert wiring(found) == {"a": ("input",), "g.b": ("a",), "c": ("g.b",)}

    def test_input_inside_a_repeated_group_is_what_the_repetition_before_gave(self) -> None:
        block = [linear(64, name="fc"), {"name": "sum", "type": "Add", "inputs": ["fc", "input"]}]
        found = resolve(spec({"name": "body", "repeat": 3, "layers": block}))
        assert wiring(found) == {
            "body.0.fc": ("input",),
            "body.0.sum": ("body.0.fc", "input"),
            "body.1.fc": ("body.0.sum",),
            "body.1.sum": ("body.1.fc", "body.0.sum"),
            "body.2.fc": ("body.1.sum",),
            "body.2.sum": ("body.2.fc", "body.1.sum"),
        }

    def test_names_resolve_innermost_first_and_then_outwards(self) -> None:
        inner = {"name": "sum", "type": "Add", "inputs": ["fc", "stem"]}
        found = resolve(
            spec(
                linear(8, name="stem"),
                linear(8, name="fc"),
                {"name": "g", "layers": [linear(8, name="fc"), inner]},
            )
        )
        assert wiring(found)["g.sum"] == ("g.fc", "stem")

    def test_a_groups_name_stands_for_its_last_layer(self) -> None:
        body = {"name": "body", "repeat": 2, "layers": [linear(64, name="fc"), {"type": "ReLU"}]}
        found = resolve(spec(body, {"name": "out", "type": "Add", "inputs": ["input", "body"]}))
        assert wiring(found)["out"] == ("input", "body.1.layer1")

    def test_a_path_reaches_into_a_group(self) -> None:
        body = {"name": "body", "repeat": 2, "layers": [linear(64, name="fc"), {"type": "ReLU"}]}
        merge = {"name": "out", "type": "Add", "inputs": ["body.0.fc", "body.1"]}
        assert wiring(resolve(spec(body, merge)))["out"] == ("body.0.fc", "body.1.layer1")

    def test_a_group_may_name_its_input(self) -> None:
        group = {"name": "g", "inputs": ["a"], "layers": [linear(4, name="c")]}
        found = resolve(spec(linear(4, name="a"), linear(4, name="b"), group))
        assert wiring(found)["g.c"] == ("a",)

    def test_what_comes_later_cannot_be_an_input(self) -> None:
        wrong = spec(linear(4, name="a", inputs=["b"]), linear(4, name="b"))
        assert only_fault(wrong) == ("/layers/0/inputs/0", "no earlier layer is called `b`")

    def test_inside_a_group_its_own_name_means_nothing_yet(self) -> None:
        wrong = spec({"name": "g", "layers": [linear(4, inputs=["g"])]})
        assert only_fault(wrong)[0] == "/layers/0/layers/0/inputs/0"

    def test_a_typing_error_is_answered_with_the_name_it_resembles(self) -> None:
        wrong = spec(linear(4, name="encoder"), linear(4, inputs=["encodr"]))
        assert only_fault(wrong)[1].endswith("did you mean `encoder`?")

    @pytest.mark.parametrize("inputs", [[], "fc", None, [None], [["fc"]], ["input"] * 300])
    def test_inputs_are_a_list_of_names(self, inputs: object) -> None:
        assert only_fault(spec(linear(4, inputs=inputs)))[0].startswith("/layers/0/inputs")

    def test_the_number_of_inputs_is_the_types(self) -> None:
        assert only_fault(spec({"name": "s", "type": "Add"})) == (
            "/layers/0/inputs",
            "layer `s` (Add) takes two or more inputs, not 1",
        )
        assert "takes 1 inputs, not 2" in only_fault(spec(linear(4, inputs=["input"] * 2)))[1]

    def test_one_input_to_attention_is_enough(self) -> None:
        layer = {"type": "MultiheadAttention", "args": {"num_heads": 2}}
        found = resolve(spec(layer, shape=(5, 8))).layers[0]
        assert found.inputs == ("input",)
        assert found.output_shape == (5, 8)


class TestInference:
    def test_sizes_are_inferred_and_written_out(self) -> None:
        found = resolve(
            spec(
                {"type": "Conv2d", "args": {"out_channels": 8, "kernel_size": 3}},
                {"type": "BatchNorm2d"},
                {"type": "GroupNorm", "args": {"num_groups": 2}},
                {"type": "Flatten", "args": {"start_dim": 2}},
                {"type": "LayerNorm"},
                {"type": "GRU", "args": {"hidden_size": 5}},
                {"type": "LastStep"},
                linear(2),
                shape=(3, 10, 12),
            )
        )
        assert [layer.args for layer in found.layers] == [
            {"in_channels": 3, "out_channels": 8, "kernel_size": 3},
            {"num_features": 8},
            {"num_groups": 2, "num_channels": 8},
            {"start_dim": 2},
            {"normalized_shape": 80},
            {"input_size": 80, "hidden_size": 5, "batch_first": True},
            {},
            {"in_features": 5, "out_features": 2},
        ]
        assert [layer.output_shape for layer in found.layers] == [
            (8, 8, 10), (8, 8, 10), (8, 8, 10), (8, 80), (8, 80), (8, 5), (5,), (2,),
        ]  # fmt: skip

    def test_a_size_that_does_not_fit_is_said_in_words(self) -> None:
        wrong = spec(
            linear(64, name="fc1"),
            {"name": "fc2", "type": "Linear", "args": {"in_features": 128, "out_features": 4}},
        )
        error = refusal(wrong)
        assert isinstance(error, ShapeMismatch)
        assert error.detail == "layer `fc2` takes 128 features but `fc1` gives 64"
        assert error.faults[0].pointer == "/layers/1/args/in_features"

    def test_a_shape_that_does_not_fit_the_type_is_said_in_words(self) -> None:
        wrong = spec({"name": "c", "type": "Conv2d", "args": {"out_channels": 1, "kernel_size": 3}})
        error = refusal(wrong)
        assert isinstance(error, ShapeMismatch)
        assert error.detail == (
            "layer `c` takes 3 dimension(s) per sample (channels, height, width) "
            "but `input` gives 1, [64]"
        )
        assert error.faults[0].pointer == "/layers/0"

    def test_branches_that_differ_cannot_be_added(self) -> None:
        wrong = spec(linear(8, name="a"), {"name": "s", "type": "Add", "inputs": ["a", "input"]})
        error = refusal(wrong)
        assert isinstance(error, ShapeMismatch)
        assert error.detail == (
            "layer `s` takes inputs of one shape, [8] like the first, but `input` gives [64]"
        )

    def test_parameters_are_listed_with_their_sizes(self) -> None:
        layer = {"type": "LSTM", "args": {"hidden_size": 5, "bidirectional": True}}
        (found,) = resolve(spec(layer, shape=(7, 3))).layers
        assert found.parameters == {
            "weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,),
            "bias_hh_l0": (20,), "weight_ih_l0_reverse": (20, 3), "weight_hh_l0_reverse": (20, 5),
            "bias_ih_l0_reverse": (20,), "bias_hh_l0_reverse": (20,),
        }  # fmt: skip

    def test_the_layer_of_a_transformer_encoder_is_an_argument(self) -> None:
        inner = {"type": "TransformerEncoderLayer", "args": {"nhead": 2, "dim_feedforward": 16}}
        layer = {"type": "TransformerEncoder", "args": {"encoder_layer": inner, "num_layers": 2}}
        (found,) = resolve(spec(layer, shape=(5, 8))).layers
        assert found.args["encoder_layer"]["args"]["d_model"] == 8
        assert found.parameters["layers.1.linear1.weight"] == (16, 8)

    def test_faults_of_a_layer_within_a_layer_have_its_pointer(self) -> None:
        inner: Spec = {"type": "TransformerEncoderLayer", "args": {"nhead": 3}}
        layer = {"type": "TransformerEncoder", "args": {"encoder_layer": inner, "num_layers": 2}}
        assert only_fault(spec(layer, shape=(5, 8)))[0] == "/layers/0/args/encoder_layer/args/nhead"
        inner["args"] = {"nhead": 2, "d_model": 16}
        error = refusal(spec(layer, shape=(5, 8)))
        assert error.faults[0].pointer == "/layers/0/args/encoder_layer/args/d_model"
        assert error.detail.endswith("takes 16 features but `input` gives 8")


EMBEDDING: Spec = {"type": "Embedding", "args": {"num_embeddings": 10, "embedding_dim": 4}}


class TestIntegers:
    def test_their_range_comes_from_the_embedding(self) -> None:
        found = resolve(spec(EMBEDDING, shape=(6,), dtype="int64"))
        assert found.inputs[0].high == 10
        assert found.layers[0].output_dtype == "float32"
        assert found.layers[0].output_shape == (6, 4)

    def test_a_smaller_range_may_be_given_but_no_larger_one(self) -> None:
        assert resolve(spec(EMBEDDING, shape=(6,), dtype="int64", high=7)).inputs[0].high == 7
        pointer, detail = only_fault(spec(EMBEDDING, shape=(6,), dtype="int64", high=11))
        assert pointer == "/input/high"
        assert "10 embeddings" in detail

    def test_every_embedding_must_know_them(self) -> None:
        small = {"type": "Embedding", "args": {"num_embeddings": 5, "embedding_dim": 4}}
        merge = {"type": "Add", "inputs": ["a", "b"]}
        two = spec(
            {"name": "a", **EMBEDDING}, {"name": "b", "inputs": ["input"], **small}, merge,
            shape=(6,), dtype="int64",
        )  # fmt: skip
        assert resolve(two).inputs[0].high == 5

    def test_other_layers_do_not_compute_with_them(self) -> None:
        error = refusal(spec(linear(4), shape=(6,), dtype="int64"))
        assert isinstance(error, ShapeMismatch)
        assert error.detail.endswith("`input` gives int64: put an Embedding before it")

    def test_an_embedding_does_not_take_floats(self) -> None:
        assert isinstance(refusal(spec(EMBEDDING, shape=(6,))), ShapeMismatch)

    def test_a_network_of_integers_learns_nothing(self) -> None:
        assert only_fault(spec({"type": "Identity"}, shape=(6,), dtype="int64"))[0] == "/layers"

    def test_floats_have_no_range(self) -> None:
        assert only_fault(spec(linear(4), high=3))[0] == "/input/high"
        assert resolve(spec(linear(4))).inputs[0].high is None


def init_of(layer: Spec, init: Spec, shape: tuple[int, ...]) -> dict[str, InitCall]:
    return resolve(spec({**layer, "init": init}, shape=shape)).layers[-1].init


LSTM: Spec = {"type": "LSTM", "args": {"hidden_size": 4, "num_layers": 2}}
ENCODER_LAYER: Spec = {"type": "TransformerEncoderLayer", "args": {"nhead": 2}}
ZEROS = {"name": "zeros_"}
ONES = {"name": "ones_"}


class TestInit:
    def test_a_name_is_a_parameter(self) -> None:
        call = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
        assert init_of(linear(4), {"weight": call}, (3,)) == {
            "weight": InitCall("kaiming_normal_", {"nonlinearity": "relu"})
        }

    def test_no_init_leaves_pytorchs_own(self) -> None:
        assert resolve(spec(linear(4))).layers[0].init == {}

    def test_the_start_of_a_name_is_every_parameter_that_starts_so(self) -> None:
        found = init_of(LSTM, {"weight": ZEROS}, (5, 3))
        assert list(found) == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]

    def test_the_longest_key_wins(self) -> None:
        found = init_of(LSTM, {"weight": ZEROS, "weight_hh": {"name": "orthogonal_"}}, (5, 3))
        assert {name: call.name for name, call in found.items()} == {
            "weight_ih_l0": "zeros_", "weight_hh_l0": "orthogonal_",
            "weight_ih_l1": "zeros_", "weight_hh_l1": "orthogonal_",
        }  # fmt: skip

    def test_a_whole_name_is_that_parameter_alone(self) -> None:
        deep = {"type": "RNN", "args": {"hidden_size": 2, "num_layers": 12}}
        assert list(init_of(deep, {"weight_ih_l1": ZEROS}, (5, 3))) == ["weight_ih_l1"]

    def test_a_dotted_path_reaches_into_a_composed_layer(self) -> None:
        found = init_of(ENCODER_LAYER, {"linear1.weight": ZEROS, "self_attn.in": ONES}, (5, 8))
        assert {name: call.name for name, call in found.items()} == {
            "self_attn.in_proj_weight": "ones_", "self_attn.in_proj_bias": "ones_",
            "linear1.weight": "zeros_",
        }  # fmt: skip

    def test_a_key_may_begin_after_a_dot(self) -> None:
        found = init_of(ENCODER_LAYER, {"weight": ONES, "linear2": ZEROS}, (5, 8))
        assert {name: call.name for name, call in found.items()} == {
            "self_attn.out_proj.weight": "ones_", "linear1.weight": "ones_",
            "linear2.weight": "zeros_", "linear2.bias": "zeros_",
            "norm1.weight": "ones_", "norm2.weight": "ones_",
        }  # fmt: skip

    def test_a_key_that_matches_nothing_is_refused(self) -> None:
        pointer, detail = only_fault(spec(linear(4, init={"wieght": ZEROS})))
        assert pointer == "/layers/0/init/wieght"
        assert detail.endswith("did you mean `weight`?")
        no_bias = {"type": "Linear", "args": {"out_features": 4, "bias": False}}
        assert only_fault(spec({**no_bias, "init": {"bias": ZEROS}}))[0] == "/layers/0/init/bias"

    def test_a_function_that_does_not_fit_the_parameter_is_refused(self) -> None:
        pointer, detail = only_fault(spec(linear(4, init={"bias": {"name": "xavier_normal_"}})))
        assert pointer == "/layers/0/init/bias"
        assert detail == "xavier_normal_ needs a parameter of 2 or more dimensions, `bias` is [4]"

    def test_the_forget_gate_is_an_lstms(self) -> None:
        gate = {"name": "forget_gate_", "args": {"val": 1}}
        found = init_of(LSTM, {"bias_ih": gate}, (5, 3))
        assert list(found) == ["bias_ih_l0", "bias_ih_l1"]
        assert "bias_ih of an LSTM" in only_fault(spec(linear(4, init={"bias": gate})))[1]
        wrong = spec({**LSTM, "init": {"bias": gate}}, shape=(5, 3))
        assert "not `bias_hh_l0`" in only_fault(wrong)[1]

    @pytest.mark.parametrize(
        ("value", "pointer"),
        [
            (None, ""),
            ("zeros_", ""),
            ({}, "/name"),
            ({"name": "zeroes_"}, "/name"),
            ({"name": "zeros_", "gain": 1}, "/gain"),
            ({"name": "normal_", "args": {"sdt": 1}}, "/args/sdt"),
            ({"name": "normal_", "args": {"std": -1}}, "/args/std"),
            ({"name": "normal_", "args": {"std": True}}, "/args/std"),
            ({"name": "normal_", "args": {"std": float("inf")}}, "/args/std"),
            ({"name": "normal_", "args": {"std": 1e39}}, "/args/std"),
            ({"name": "normal_", "args": None}, "/args"),
            ({"name": "constant_"}, "/args/val"),
            ({"name": "uniform_", "args": {"a": 2, "b": 1}}, "/args/a"),
            ({"name": "kaiming_normal_", "args": {"nonlinearity": "gelu"}}, "/args/nonlinearity"),
        ],
    )
    def test_a_bad_call_is_pointed_at(self, value: object, pointer: str) -> None:
        assert only_fault(spec(linear(4, init={"weight": value})))[0] == (
            f"/layers/0/init/weight{pointer}"
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("layer", "pointer"),
        [
            ({"type": "Linear"}, "/args/out_features"),
            ({"type": "Linear", "args": {"out_features": "3"}}, "/args/out_features"),
            ({"type": "Linear", "args": {"out_features": True}}, "/args/out_features"),
            ({"type": "Linear", "args": {"out_features": 3.0}}, "/args/out_features"),
            ({"type": "Linear", "args": {"out_features": 0}}, "/args/out_features"),
            ({"type": "Linear", "args": {"out_features": 10**30}}, "/args/out_features"),
            ({"type": "Linear", "args": {"out_features": 3, "device": "cuda"}}, "/args/device"),
            ({"type": "Linear", "args": {"out_features": 3, "a/b~c": 1}}, "/args/a~1b~0c"),
            ({"type": "ELU", "args": {"alpha": float("nan")}}, "/args/alpha"),
            ({"type": "Dropout", "args": {"p": 1.5}}, "/args/p"),
            ({"type": "GELU", "args": {"approximate": "erf"}}, "/args/approximate"),
            ({"type": "Softmax", "args": {"dim": 0}}, "/args/dim"),
            ({"type": "Softmax", "args": {"dim": 3}}, "/args/dim"),
            ({"type": "ReLU", "args": []}, "/args"),
            ({"type": "ReLU", "args": None}, "/args"),
            ({"type": "ReLU", "init": None}, "/init"),
            ({"type": "ReLU", "arguments": {}}, "/arguments"),
            ({"type": "ReLU", "repeat": 2}, "/repeat"),
            ({"name": "x"}, "/type"),
            ({"type": 3}, "/type"),
            ({"type": "Relu"}, "/type"),
            ({"type": "SyncBatchNorm"}, "/type"),
            ({"type": "Module"}, "/type"),
            ({"type": "ReLU", "layers": [{"type": "ReLU"}]}, "/type"),
            ({"repeat": 0, "layers": [{"type": "ReLU"}]}, "/repeat"),
            ({"repeat": True, "layers": [{"type": "ReLU"}]}, "/repeat"),
            ({"repeat": None, "layers": [{"type": "ReLU"}]}, "/repeat"),
            ({"layers": []}, "/layers"),
            ({"layers": None}, "/layers"),
            ({"layers": [{"type": "Relu"}]}, "/layers/0/type"),
            ({"repeat": 5, "layers": [{"type": "ReLU"}, {"type": "Relu"}]}, "/layers/1/type"),
            (None, ""),
            ("ReLU", ""),
        ],
    )  # fmt: skip
    def test_a_layer_at_fault_is_pointed_at(self, layer: object, pointer: str) -> None:
        assert only_fault(spec(linear(4), layer))[0] == f"/layers/1{pointer}"

    @pytest.mark.parametrize(
        ("sample", "pointer"),
        [
            (None, "/input"),
            ([64], "/input/0"),
            ([], "/input"),
            ([{"shape": [64]}], "/input/0/name"),
            ([{"name": "a", "shape": [64]}, {"name": "a", "shape": [64]}], "/input/1/name"),
            ([{"name": "input", "shape": [64]}], "/input/0/name"),
            ([{"name": "a", "shape": [64]}, {"name": "b", "shape": [64]}], "/input/1"),
            ({}, "/input/shape"),
            ({"shape": 64}, "/input/shape"),
            ({"shape": [0]}, "/input/shape"),
            ({"shape": [64.0]}, "/input/shape"),
            ({"shape": [10**5] * 2}, "/input/shape"),
            ({"shape": [1] * 9}, "/input/shape"),
            ({"shape": [64], "dtype": "float64"}, "/input/dtype"),
            ({"shape": [64], "batch": 3}, "/input/batch"),
        ],
    )
    def test_a_sample_at_fault_is_pointed_at(self, sample: object, pointer: str) -> None:
        assert only_fault({"input": sample, "layers": [linear(4)]})[0] == pointer

    def test_an_unknown_type_has_its_own_code(self) -> None:
        error = refusal(spec({"type": "Convolution2d"}))
        assert isinstance(error, UnknownLayerType)
        assert refusal(spec({"type": "Relu"})).detail.endswith("did you mean `ReLU`?")

    def test_a_field_of_the_spec_must_be_known(self) -> None:
        assert only_fault(spec(linear(4)) | {"optimizer": {}})[0] == "/optimizer"

    def test_the_models_kind_may_stay_in_place(self) -> None:
        assert len(resolve(spec(linear(4)) | {"kind": "spec"}).layers) == 1
        assert only_fault(spec(linear(4)) | {"kind": "keras"})[0] == "/kind"

    def test_several_faults_are_told_at_once(self) -> None:
        error = refusal(
            spec({"type": "Relu"}, linear(4, inputs=["x"]), {"type": "Linear", "args": {"out": 3}})
        )
        assert [fault.pointer for fault in error.faults] == [
            "/layers/0/type",
            "/layers/1/inputs/0",
            "/layers/2/args/out",
            "/layers/2/args/out_features",
        ]
        assert error.detail == error.faults[0].detail

    def test_a_fault_in_a_repeated_group_is_told_once(self) -> None:
        assert len(refusal(spec({"repeat": 50, "layers": [{"type": "Relu"}]})).faults) == 1


def nested(depth: int, innermost: list[Spec], repeat: int = 1) -> list[Spec]:
    for _ in range(depth):
        innermost = [{"repeat": repeat, "layers": innermost}]
    return innermost


class TestLimits:
    @pytest.mark.parametrize(
        ("layers", "limit"),
        [
            ([{"repeat": 20_000, "layers": [linear(4), linear(4)]}], "20000 layers"),
            (nested(16, [linear(4)], repeat=20_000), "20000 layers"),
            (nested(17, [linear(4)]), "16 deep"),
            ([linear(10**8), linear(10**8)], "2000000000 parameters"),
            ([{"type": "ConstantPad1d", "args": {"padding": 10**8, "value": 0}}],
             "100000000 numbers per sample"),
            ([{"type": "Unflatten", "args": {"dim": 1, "unflattened_size": [1] * 7 + [64]}},
              {"type": "Unflatten", "args": {"dim": 1, "unflattened_size": [1, 1]}}],
             "8 dimensions"),
            ([linear(4, init={f"w{i}": ZEROS for i in range(65)})], "64 keys"),
            ([{"repeat": 1000, "layers": [{"type": "Add", "inputs": ["input"] * 256}]}],
             "100000 inputs"),
        ],
    )  # fmt: skip
    def test_a_network_beyond_a_limit_is_refused_at_once(
        self, layers: list[Spec], limit: str
    ) -> None:
        started = time.process_time()
        assert limit in refusal(spec(*layers)).detail
        assert time.process_time() - started < 5

    def test_parameter_tensors_are_limited(self) -> None:
        inner = {"type": "TransformerEncoderLayer", "args": {"nhead": 1, "dim_feedforward": 1}}
        stack = {"type": "TransformerEncoder", "args": {"encoder_layer": inner, "num_layers": 1000}}
        wrong = spec({"repeat": 1000, "layers": [stack]}, shape=(2, 1))
        assert "50000 parameter tensors" in refusal(wrong).detail

    def test_faults_are_limited(self) -> None:
        assert len(refusal(spec(*[{"type": "Relu"}] * 100)).faults) == 20

    def test_nesting_up_to_the_limit_is_fine(self) -> None:
        assert len(resolve(spec(*nested(16, [linear(4)], repeat=1))).layers) == 1


def test_the_spec_is_kept_as_submitted() -> None:
    given = spec({"name": "g", "repeat": 2, "layers": [linear(4)]})
    found = resolve(given)
    assert found.submitted == given
    assert found.layers[1].pointer == "/layers/0/layers/0"
    assert given == spec({"name": "g", "repeat": 2, "layers": [linear(4)]})


def test_a_thousand_layers_resolve_in_a_tenth_of_a_second() -> None:
    init = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}
    deep = spec(*[linear(64, init=init), {"type": "ReLU"}] * 500)

    def seconds() -> float:
        started = time.process_time()
        resolve(deep)
        return time.process_time() - started

    assert min(seconds() for _ in range(5)) < 0.1
