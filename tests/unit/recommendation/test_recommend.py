"""What is offered to whom: data cases, numbers, patches."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from service.domain.architecture import Architecture, resolve
from service.domain.findings import Diagnosis, Finding, Severity, Verdict
from service.domain.measurements import LayerMeasurements, Quantiles, Trial, TrialRun
from service.domain.probe_plan import OptimizerPlan
from service.domain.recommendations import Recommendation
from service.domain.request import ALL_KINDS
from service.recommendation import ALL_REMEDIES, recommend
from service.recommendation.training_effects import effect
from tests.unit.recommendation.remedy_cases import (
    cnn,
    diagnosis,
    kaiming,
    linear,
    measured,
    mlp,
    normal,
    patched,
    recurrent,
    repeated,
)

Spec = dict[str, Any]


def advice(
    spec: Spec,
    found: Diagnosis,
    *,
    batch_size: int = 64,
    trial: Trial | None = None,
    grad_norm: Quantiles | None = None,
    allowed: tuple[str, ...] = ALL_KINDS,
    with_spec: bool = True,
    passed: dict[str, float] | None = None,
) -> tuple[Recommendation, ...]:
    """`passed`: by layer, what its weights alone pass of the gradient."""
    architecture = resolve(spec)
    seen = measured(architecture, grad_norm=grad_norm)
    seen = replace(seen, layers=tuple(_passing(one, passed or {}) for one in seen.layers))
    return recommend(
        found,
        seen,
        architecture=architecture if with_spec else None,
        batch_size=batch_size,
        trial=trial,
        allowed_changes=allowed,
    )


def _passing(layer: LayerMeasurements, passed: dict[str, float]) -> LayerMeasurements:
    if layer.name not in passed:
        return layer
    parts: dict[str, float | None] = {"weight": passed[layer.name]}
    return replace(layer, gradient=replace(layer.gradient, gain_parts=parts))


def of_kind(kind: str, offered: tuple[Recommendation, ...]) -> Recommendation:
    (found,) = (r for r in offered if r.kind == kind)
    return found


OF_THE_TRAINING = {"learning_rate", "loss_scaling", "clipping"}
SAME = "symmetric_initialization"
VANISHING = diagnosis("vanishing_gradient")
SYMMETRIC = diagnosis(SAME, layers=("fc1", "fc2", "fc3", "head"))

RATE = Finding(
    "extreme_update_ratio", Severity.WARNING, 0.9, (), "", "", {"optimizer": "sgd", "lr": 5.0}
)
EXTREME = Diagnosis(Verdict.AT_RISK, 0.9, "static", "", (RATE,))

MUST_OFFER: list[tuple[str, Spec, Diagnosis, list[str]]] = [
    ("default relu", mlp(20, "ReLU"), VANISHING, ["initializer", "normalization", "residual"]),
    ("tiny gelu", mlp(20, "GELU", normal(0.01)), VANISHING, [
        "initializer", "normalization", "residual",
    ]),
    ("deep sigmoid", mlp(20, "Sigmoid"), VANISHING, ["normalization", "activation", "residual"]),
    ("narrow relu", mlp(40, "ReLU", normal(0.01)), VANISHING, [
        "initializer", "normalization", "activation", "residual",
    ]),
    ("deep tanh", mlp(30, "Tanh"), VANISHING, [
        "initializer", "normalization", "activation", "residual",
    ]),
    ("raw data", mlp(2, "ReLU", kaiming("relu")), diagnosis("unscaled_input"), ["input_scaling"]),
    ("zeros", mlp(3, "ReLU", {"weight": {"name": "zeros_"}}), SYMMETRIC, ["initializer"]),
    (
        "constant",
        mlp(3, "Sigmoid", {"weight": {"name": "constant_", "args": {"val": 0.02}}}),
        SYMMETRIC,
        ["initializer"],
    ),
    ("big weights", mlp(8, "Tanh", normal(1.0)), diagnosis("saturated_activation"), [
        "initializer", "normalization", "activation",
    ]),
    ("dead relu", mlp(3, "ReLU", kaiming("relu")), diagnosis("dead_units"), [
        "normalization", "activation",
    ]),
    ("rnn", recurrent("RNN"), diagnosis("exploding_gradient", layers=("rnn",)), [
        "initializer", "recurrent_cell", "recurrent_cell",
    ]),
    ("gru", recurrent("GRU"), diagnosis("fading_memory", layers=("rnn",)), [
        "initializer", "recurrent_cell",
    ]),
    ("lstm", recurrent("LSTM"), diagnosis("fading_memory", layers=("rnn",)), ["initializer"]),
    ("float16", mlp(2, "ReLU", kaiming("relu")), diagnosis("half_precision_underflow"), [
        "loss_scaling",
    ]),
    ("much dropout", mlp(3, "ReLU", kaiming("relu"), dropout=0.9), diagnosis("drowned_signal"), [
        "regularization",
    ]),
    ("extreme rate", mlp(2, "ReLU", kaiming("relu")), EXTREME, ["learning_rate"]),
    ("residual", repeated(8), diagnosis("exploding_gradient"), ["initializer", "normalization"]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "spec", "found", "kinds"), MUST_OFFER, ids=lambda v: str(v)[:12])
def test_must_offer(what: str, spec: Spec, found: Diagnosis, kinds: list[str]) -> None:
    offered = advice(spec, found)
    assert [r.kind for r in offered] == [*kinds, "clipping"]
    assert [r.id for r in offered] == [f"r{n}" for n in range(1, len(offered) + 1)]
    for r in offered[:-1]:
        assert all((r.resolves, r.change, r.why, r.code))
        assert (r.patch is None) == (r.kind in OF_THE_TRAINING)
        assert r.effect is None
        assert set(r.resolves) <= {f.code for f in found.findings}


HEALTHY = Diagnosis(
    Verdict.HEALTHY,
    0.9,
    "static",
    "",
    (Finding("poor_initialization", Severity.WARNING, 0.6, (), "", ""),),
)
UNKNOWN = diagnosis("output_loss_mismatch")
INFO_ONLY = Diagnosis(
    Verdict.AT_RISK,
    0.5,
    "static",
    "",
    (Finding("vanishing_gradient", Severity.INFO, 0.6, (), "", ""),),
)

MUST_STAY_QUIET: list[tuple[str, Spec, Diagnosis]] = [
    ("healthy", mlp(20, "Sigmoid"), diagnosis()),
    ("healthy with a warning", mlp(20, "ReLU"), HEALTHY),
    ("not theirs", mlp(3, "ReLU"), UNKNOWN),
    ("info only", mlp(20, "ReLU"), INFO_ONLY),
]


@pytest.mark.parametrize(("what", "spec", "found"), MUST_STAY_QUIET, ids=lambda v: str(v)[:12])
def test_must_stay_quiet(what: str, spec: Spec, found: Diagnosis) -> None:
    assert [r.kind for r in advice(spec, found)] == ["clipping"]


def test_right_weights_are_left_alone() -> None:
    offered = advice(mlp(10, "ReLU", kaiming("relu")), VANISHING)
    assert [r.kind for r in offered] == ["normalization", "residual", "clipping"]


@pytest.mark.parametrize(("share", "drawn"), [(1e-8, True), (5e-4, True), (5e-3, False)])
def test_weights_of_the_right_size_that_pass_nothing_are_drawn_anew(
    share: float, drawn: bool
) -> None:
    """Equal rows before a cross-entropy: its gradient sums to zero over the classes."""
    spec = mlp(10, "ReLU", kaiming("relu"))
    spec["layers"][-1]["init"] = {"weight": {"name": "constant_", "args": {"val": 0.125}}}
    offered = advice(spec, VANISHING, passed={"head": share})
    assert [r.layers for r in offered if r.kind == "initializer"] == [("head",)] * drawn


def test_default_weights_behind_normalization_are_left_alone() -> None:
    assert all(
        r.kind not in ("initializer", "normalization")
        for r in advice(mlp(20, "GELU", norm="LayerNorm"), diagnosis("rank_collapse"))
    )


def test_only_allowed_kinds() -> None:
    offered = advice(mlp(20, "Sigmoid"), VANISHING, allowed=("activation",))
    assert [(r.id, r.kind) for r in offered] == [("r1", "activation")]
    assert advice(mlp(20, "Sigmoid"), VANISHING, allowed=()) == ()


@pytest.mark.parametrize(
    ("activation", "initializer", "args"),
    [
        ("ReLU", "kaiming_normal_", {"nonlinearity": "relu"}),
        ("LeakyReLU", "kaiming_normal_", {"a": 0.01, "nonlinearity": "leaky_relu"}),
        ("Tanh", "orthogonal_", {"gain": 1.0}),
        ("ELU", "orthogonal_", {"gain": 1.0}),
        ("SELU", "normal_", {"std": 0.125}),
        ("GELU", "normal_", {"std": 0.176026}),
        ("SiLU", "normal_", {"std": 0.176246}),
    ],
)
def test_initializer_fits_the_activation(
    activation: str, initializer: str, args: dict[str, Any]
) -> None:
    change = of_kind("initializer", advice(mlp(20, activation, normal(0.01)), VANISHING)).change
    assert change["initializer"] == initializer
    assert change["args"] == pytest.approx(args) if "std" in args else change["args"] == args
    by_name = {p["parameter"]: p for p in change["parameters"]}
    assert by_name["head.weight"]["args"] == {"nonlinearity": "linear"}
    if activation == "GELU":
        assert by_name["fc3.bias"]["args"] == {"std": 0.415839}


def test_slope_comes_from_the_model() -> None:
    spec = mlp(20, "LeakyReLU")
    for layer in spec["layers"]:
        if layer["type"] == "LeakyReLU":
            layer["args"] = {"negative_slope": 0.2}
    change = of_kind("initializer", advice(spec, VANISHING)).change
    assert change["args"]["a"] == 0.2
    assert change["gain"] == pytest.approx(math.sqrt(2 / 1.04), rel=1e-5)


def test_branches_are_scaled_by_their_number() -> None:
    change = of_kind("initializer", advice(repeated(8), diagnosis("exploding_gradient"))).change
    assert change["gain"] == pytest.approx(math.sqrt(2 / 8), rel=1e-5)


def test_default_initialization_is_named_as_the_disease() -> None:
    why = of_kind("initializer", advice(mlp(20, "ReLU"), VANISHING)).why
    assert all(part in why for part in ("kaiming_uniform_(a=√5)", "1/(3·fan_in)", "1.414"))
    other = of_kind("initializer", advice(mlp(20, "ReLU", normal(0.01)), VANISHING)).why
    assert "√5" not in other


@pytest.mark.parametrize(
    ("spec", "batch_size", "normalization"),
    [
        (cnn(6), 64, "BatchNorm2d"),
        (cnn(6), 8, "GroupNorm"),
        (cnn(40), 64, "GroupNorm"),
        (mlp(10, "Sigmoid"), 64, "BatchNorm1d"),
        (mlp(10, "Sigmoid"), 8, "LayerNorm"),
        (mlp(50, "Sigmoid"), 64, "LayerNorm"),
    ],
)
def test_normalization_fits_batch_and_depth(
    spec: Spec, batch_size: int, normalization: str
) -> None:
    offered = of_kind("normalization", advice(spec, VANISHING, batch_size=batch_size))
    assert offered.change["normalization"] == normalization
    assert "head" not in offered.layers


@pytest.mark.parametrize(
    ("spec", "code", "successor"),
    [
        (mlp(5, "Sigmoid"), "vanishing_gradient", "ReLU"),
        (mlp(40, "Softplus"), "vanishing_gradient", "ELU"),
        (mlp(10, "Sigmoid", norm="LayerNorm"), "rank_collapse", "ELU"),
        (mlp(40, "GELU"), "untrainable", "ELU"),
        (mlp(3, "ReLU"), "dead_units", "LeakyReLU"),
    ],
)
def test_successor_fits_the_stack(spec: Spec, code: str, successor: str) -> None:
    change = of_kind("activation", advice(spec, diagnosis(code))).change
    assert change["activation"] == successor
    function = "orthogonal_" if successor == "ELU" else "kaiming_normal_"
    assert change["initializer"] == function


def test_output_activation_stays() -> None:
    spec = mlp(10, "Sigmoid")
    spec["layers"].append({"name": "out", "type": "Sigmoid"})
    offered = of_kind("activation", advice(spec, VANISHING))
    assert offered.patch is not None
    types = {node.name: node.type for node in patched(spec, offered.patch).layers}
    assert (types["act1"], types["out"]) == ("ReLU", "Sigmoid")


PATCHED: list[tuple[Spec, Diagnosis]] = [
    (mlp(20, "ReLU"), VANISHING),
    (mlp(20, "GELU", normal(0.01)), VANISHING),
    (mlp(20, "Sigmoid"), VANISHING),
    (cnn(8), VANISHING),
    (repeated(4), diagnosis("exploding_gradient")),
    (recurrent("LSTM"), diagnosis("fading_memory")),
    (mlp(3, "ReLU", {"weight": {"name": "zeros_"}}), SYMMETRIC),
]


@pytest.mark.parametrize(("spec", "found"), PATCHED, ids=lambda v: str(v)[:10])
def test_patches_do_what_the_change_says(spec: Spec, found: Diagnosis) -> None:
    for r in advice(spec, found):
        if r.kind == "clipping":
            assert r.patch is None
            continue
        if r.patch is None:
            pytest.fail(f"{r.kind} has no patch")
        after = patched(spec, r.patch)
        _check_initialized(after, r.change)
        nodes = {node.name: node for node in after.layers}
        if r.kind == "activation":
            assert r.change["replaces"] not in {node.type for node in after.layers}
        if r.kind == "normalization":
            readers = {name: n.type for n in after.layers for name in n.inputs}
            for layer in r.change["layers"]:
                assert readers[layer["after"]] == layer["type"]
                assert nodes[layer["after"]].output_shape


def _check_initialized(after: Architecture, change: dict[str, Any]) -> None:
    init = {f"{n.name}.{key}": call for n in after.layers for key, call in n.init.items()}
    for p in change.get("parameters", ()):
        call = init[p["parameter"]]
        assert (call.name, call.args) == (p["initializer"], p["args"])


def test_repetitions_that_change_by_themselves_are_written_out() -> None:
    right = normal(math.sqrt(2 / 4 / 64))  # before ReLU, one of four branches
    spec = repeated(4, right)
    names = tuple(f"body.{n}.fc" for n in range(4))
    one = of_kind("initializer", advice(spec, diagnosis(SAME, layers=names[1:2])))
    assert "body.1.fc" in one.layers
    assert "body.2.fc" not in one.layers
    assert one.patch is not None
    after = {node.name: node.init for node in patched(spec, one.patch).layers}
    before = {node.name: node.init for node in resolve(spec).layers}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == set(one.layers)
    assert "model.get_submodule('body.1.fc')" in one.code
    every = of_kind("initializer", advice(spec, diagnosis(SAME, layers=names)))
    assert set(names) <= set(every.layers)
    assert every.patch is not None
    assert all(operation["path"].endswith("/init") for operation in every.patch)


def test_who_reads_a_layer_by_name_reads_what_is_inserted_behind_it() -> None:
    spec = mlp(10, "Tanh")
    spec["layers"].insert(-1, {"name": "sum", "type": "Add", "inputs": ["fc10", "fc9"]})
    one = of_kind("normalization", advice(spec, VANISHING))
    assert one.patch is not None
    nodes = {node.name: node for node in patched(spec, one.patch).layers}
    assert nodes["sum"].inputs == ("fc10_norm", "fc9_norm")
    assert nodes["fc10_norm"].inputs == ("fc10",)


def test_uploaded_models_get_code_without_patch() -> None:
    for r in advice(mlp(10, "Tanh"), VANISHING, with_spec=False):
        assert r.patch is None
        ast.parse(r.code)


@pytest.mark.parametrize("remedy", ALL_REMEDIES, ids=lambda remedy: remedy.kind)
def test_kinds_are_those_of_the_contract(remedy: Any) -> None:
    assert remedy.kind in ALL_KINDS


# Clipping


def run(norms: Sequence[float | None], *, learned: bool = True) -> Trial:
    return Trial("gaussian_classes", 100, (
        TrialRun("sgd", 0.1, (), tuple(norms), 0.99, learned, 1.0),
    ))  # fmt: skip


def clip(**arguments: Any) -> dict[str, Any]:
    spec = mlp(2, "ReLU")
    return of_kind(
        "clipping", advice(spec, arguments.pop("found", diagnosis()), **arguments)
    ).change


def test_five_medians_under_twenty_norms() -> None:
    change = clip(grad_norm=Quantiles(2.0, 2.5, 3.0, 12))
    assert change["max_norm"] == 10.0
    assert change["confidence"] == "low"
    assert not change["needed"]
    assert "12" in change["basis"]


def test_ninetieth_percentile_with_its_interval() -> None:
    change = clip(trial=run([float(n) for n in range(1, 101)]))
    assert change["max_norm"] == 90.0
    assert change["share_clipped"] == pytest.approx(0.10)
    # Exact binomial interval: P(84 ≤ Binomial(100, .9) < 96) ≥ .95
    assert (change["low"], change["high"]) == (84.0, 96.0)
    assert change["confidence"] == "high"


def test_interval_covers_at_least_95_percent() -> None:
    trial = run([float(n) for n in range(1, 41)])
    change = clip(trial=trial)
    low, high = int(change["low"]), int(change["high"])
    mass = sum(math.comb(40, k) * 0.9**k * 0.1 ** (40 - k) for k in range(low, high))
    assert mass >= 0.95 or high == 40


def test_runs_that_did_not_learn_are_no_basis() -> None:
    change = clip(trial=run([1e6] * 100, learned=False), grad_norm=Quantiles(2.0, 2.5, 3.0, 12))
    assert change["max_norm"] == 10.0


def test_spikes_make_clipping_needed() -> None:
    assert clip(trial=run([1.0] * 95 + [50.0] * 5))["needed"]
    assert clip(grad_norm=Quantiles(2.0, 20.0, 30.0, 12))["needed"]


def test_probe_norms_when_there_are_enough() -> None:
    change = clip(grad_norm=Quantiles(2.0, 2.5, 3.0, 24))
    assert (change["max_norm"], change["low"], change["high"]) == (2.5, 2.0, 3.0)


@pytest.mark.parametrize("norms", [Quantiles(None, None, None, 0), Quantiles(0.0, 0.0, 0.0, 12)])
def test_without_norms_the_usual_value(norms: Quantiles) -> None:
    change = clip(grad_norm=norms)
    assert change["max_norm"] == 1.0
    assert change["confidence"] == "low"


def test_a_named_sgd_bounds_the_step() -> None:
    def clip(lr: float, momentum: float = 0.9, name: str = "sgd") -> dict[str, Any]:
        spec = mlp(3, "ReLU", kaiming("relu"))
        return of_kind(
            "clipping",
            recommend(
                diagnosis(),
                measured(resolve(spec)),
                architecture=resolve(spec),
                batch_size=64,
                allowed_changes=ALL_KINDS,
                optimizer=OptimizerPlan(name, lr, momentum),
            ),
        ).change

    weights = math.sqrt(3 * 64 * 2 + 10 * 2)  # He: a variance of 2/64 over 64 inputs
    assert clip(1.0)["max_norm"] == pytest.approx(0.1 * weights * 0.1 / 4, rel=1e-3)
    assert clip(0.5)["max_norm"] == pytest.approx(2 * clip(1.0)["max_norm"], rel=1e-3)
    assert clip(1.0, momentum=0.0)["max_norm"] == pytest.approx(
        10 * clip(1.0)["max_norm"], rel=1e-3
    )
    assert "SGD" in clip(1.0)["basis"]
    assert clip(1e-3)["max_norm"] == clip(1.0, name="adam")["max_norm"] == 10.0


def test_clipping_never_claims_vanishing() -> None:
    every = tuple(sorted(set().union(*(remedy.cures for remedy in ALL_REMEDIES))))
    for spec in (mlp(20, "ReLU"), recurrent("RNN")):
        offered = of_kind("clipping", advice(spec, diagnosis(*every, layers=("rnn",))))
        assert set(offered.resolves) <= {"exploding_gradient"}
    assert (
        of_kind("clipping", advice(mlp(20, "ReLU"), diagnosis("exploding_gradient"))).resolves == ()
    )


def test_a_head_alone() -> None:
    """One layer only: it is the head, and nothing is put behind it."""
    spec = {"input": {"shape": [64]}, "layers": [linear("only", 10, normal(3.0))]}
    offered = advice(spec, diagnosis("initial_loss_off"))
    assert [r.kind for r in offered] == ["initializer", "clipping"]
    assert offered[0].title == "Initialize only with kaiming_normal_ (gain 1)"


def run_of(
    optimizer: str, lr: float, *, learned: bool, norms: tuple[float, ...], last: float = 2.0
) -> TrialRun:
    losses = tuple(2.3 + (last - 2.3) * step / 49 for step in range(50))
    return TrialRun(optimizer, lr, losses, norms, None, learned, 0.5 if learned else 0.0)


SPIKY = (1.0,) * 40 + (9.0,) + (1.0,) * 9
CALM = (1.0,) * 50
UNTRAINABLE = diagnosis("untrainable")


def rate_of(trial: Trial, found: Diagnosis = UNTRAINABLE) -> list[float]:
    offered = advice(mlp(2, "ReLU"), found, trial=trial, allowed=("learning_rate",))
    return [r.change["lr"] for r in offered]


def test_another_rate_for_the_one_that_was_named() -> None:
    blown = run_of("sgd", 5.0, learned=False, norms=CALM, last=50.0)
    stuck = run_of("sgd", 1e-6, learned=False, norms=CALM, last=2.3)
    learned = run_of("sgd", 0.1, learned=True, norms=CALM)
    assert rate_of(Trial("gaussian_classes", 50, (blown,))) == [0.5]
    assert rate_of(Trial("gaussian_classes", 50, (stuck,))) == [1e-5]
    assert rate_of(Trial("gaussian_classes", 50, (learned,))) == []
    assert rate_of(Trial("gaussian_classes", 50, (blown, stuck))) == []  # none was named
    assert rate_of(Trial("gaussian_classes", 50, (blown,)), diagnosis()) == []


@pytest.mark.parametrize(
    ("depth", "p", "most"), [(1, 0.9, 0.5), (3, 0.9, 0.2), (10, 0.3, 0.06), (60, 0.5, 0.01)]
)
def test_dropout_is_lowered_until_half_is_left(depth: int, p: float, most: float) -> None:
    spec = mlp(depth, "ReLU", kaiming("relu"), dropout=p)
    (one,) = advice(spec, diagnosis("drowned_signal"), allowed=("regularization",))
    assert one.change["dropout"] == most
    assert len(one.layers) == depth
    assert one.patch is not None
    after = [node for node in patched(spec, one.patch).layers if node.type == "Dropout"]
    assert {node.args["p"] for node in after} == {most}


def test_small_dropouts_stay_as_they_are() -> None:
    spec = mlp(4, "ReLU", kaiming("relu"), dropout=0.1)
    assert not advice(spec, UNTRAINABLE, allowed=("regularization",))
    spec["layers"][2]["args"] = {"p": 0.95}  # the first; three of 0.1 leave 0.9³ of the half
    (one,) = advice(spec, UNTRAINABLE, allowed=("regularization",))
    assert one.layers == ("fc1",)
    assert one.change["dropout"] == math.floor(100 * (1 - 0.5 / 0.9**3)) / 100
    assert one.patch is not None
    after = [node for node in patched(spec, one.patch).layers if node.type == "Dropout"]
    assert [node.args["p"] for node in after] == [one.change["dropout"], 0.1, 0.1, 0.1]


def test_weight_decay_only_where_the_training_spikes() -> None:
    for norms, learned, kinds in (
        (SPIKY, True, ["regularization"]),
        (CALM, True, []),
        (SPIKY, False, []),
    ):
        trial = Trial("gaussian_classes", 50, (run_of("sgd", 0.1, learned=learned, norms=norms),))
        offered = advice(mlp(2, "ReLU"), UNTRAINABLE, trial=trial, allowed=("regularization",))
        assert [r.kind for r in offered] == kinds
        assert all(r.resolves == () for r in offered)


def test_loss_scale_is_a_power_of_two_with_headroom() -> None:
    found = diagnosis("half_precision_underflow")
    (one,) = advice(mlp(2, "ReLU"), found, allowed=("loss_scaling",))
    scale, largest = one.change["loss_scale"], one.change["largest_gradient"]
    assert math.log2(scale).is_integer()
    assert 65504.0 / 16.0 < scale * largest <= 65504.0 / 8.0


def test_pretraining_where_the_activation_has_to_stay() -> None:
    spec = mlp(8, "Sigmoid")
    offered = advice(spec, VANISHING, allowed=("pretraining",))
    assert [r.kind for r in offered] == ["pretraining"]
    assert offered[0].layers == tuple(f"fc{n}" for n in range(1, 9))
    assert "('fc1', 'act1')" in offered[0].code
    assert advice(spec, VANISHING, allowed=("pretraining", "activation"))[-1].kind == "activation"
    assert advice(mlp(8, "ReLU"), VANISHING, allowed=("pretraining",)) == ()
    assert advice(spec, diagnosis(), allowed=("pretraining",)) == ()


def test_a_relu_at_the_output_is_taken_off() -> None:
    spec = mlp(2, "Tanh")
    spec["layers"].append({"name": "last", "type": "ReLU"})
    architecture = resolve(spec)
    made_up = measured(architecture)
    probe = replace(made_up, model=replace(made_up.model, output_op="relu"))
    (one, *_) = recommend(
        diagnosis("dead_units"),
        probe,
        architecture=architecture,
        batch_size=64,
        allowed_changes=("activation",),
    )
    assert one.layers == ("head",)
    assert one.patch is not None
    assert [node.type for node in patched(spec, one.patch).layers][-1] == "Identity"
    assert one.code == "model.set_submodule('last', nn.Identity())"


def test_the_measured_gain_where_no_formula_holds() -> None:
    spec = mlp(6, "Tanh", normal(0.05))
    architecture = resolve(spec)
    made_up = measured(architecture)  # of every layer a fifth of the gradient comes through
    layers = tuple(
        replace(x, nonlinearity="tanhshrink") if x.nonlinearity else x for x in made_up.layers
    )
    offered = recommend(
        VANISHING,
        replace(made_up, layers=layers),
        architecture=architecture,
        batch_size=64,
        allowed_changes=("initializer",),
    )
    by_name = {p["parameter"]: p for p in offered[0].change["parameters"]}
    assert by_name["fc3.weight"]["gain"] == pytest.approx(5 * 0.05 * math.sqrt(64))
    assert "no formula covers tanhshrink" in offered[0].why


def test_a_plain_cell_is_drawn_for_its_steps() -> None:
    found = diagnosis("exploding_gradient", layers=("rnn",))
    change = of_kind("initializer", advice(recurrent("RNN"), found)).change
    by_name = {p["parameter"]: p for p in change["parameters"]}
    assert by_name["rnn.weight_ih_l0"]["gain"] == pytest.approx(1 / math.sqrt(8), rel=1e-5)
    assert by_name["rnn.weight_hh_l1"]["initializer"] == "orthogonal_"
    assert by_name["rnn.bias_hh_l1"]["initializer"] == "zeros_"


def test_effects_of_trainings() -> None:
    def trial(*, learned: bool, norms: tuple[float, ...]) -> Trial:
        return Trial("gaussian_classes", 50, (run_of("sgd", 0.1, learned=learned, norms=norms),))

    spiky, calm = trial(learned=True, norms=SPIKY), trial(learned=True, norms=CALM)
    failed = trial(learned=False, norms=CALM)
    assert effect(spiky, calm, ()).verified
    assert not effect(calm, spiky, ()).verified
    assert not effect(calm, calm, ()).verified
    assert not effect(spiky, failed, ()).verified  # calm because it learns nothing
    better = effect(failed, spiky, ("untrainable",))
    assert better.verified
    assert better.resolved == ("untrainable",)
