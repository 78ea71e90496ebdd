"""16 bits: the graph against the model's own autocast, and what is lost against float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.errors import ModelRaised
from service.domain.half_precision import ROUNDS_TO_ZERO
from service.domain.probe_plan import InputPlan, OptimizerPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.loaders.torchscript import plain_executor
from service.probing.precision import PRECISIONS
from service.probing.session import Session
from service.probing.trace import primary_output
from tests.probing.exported import exported
from tests.probing.models import (
    ConvNet,
    LastStepRNN,
    mlp,
    resnet,
    saved,
    scripted,
    traced,
    transformer,
)

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: mlp(4, 32, nn.Tanh), (64,)),
    "conv_batchnorm_dropout": (ConvNet, (1, 8, 8)),
    "resnet": (lambda: resnet(8, 2), (3, 8, 8)),
    "lstm": (lambda: LastStepRNN("LSTM", dropout=0.2), (5, 8)),
    "gru": (lambda: LastStepRNN("GRU"), (5, 8)),
    "transformer": (transformer, (6, 16)),
    "transformer_pre_norm": (lambda: transformer(norm_first=True), (6, 16)),
}


def planned(precision: str, shape: tuple[int, ...], **more: Any) -> ProbePlan:
    given = {"batch_size": 8, "batches": 2, "seeds": 2, "trial_steps": 0, **more}
    return ProbePlan(inputs=(InputPlan(shape),), precision=precision, **given)


def opened(model: nn.Module, precision: str, shape: tuple[int, ...], **more: Any) -> Session:
    """Sent as a scripted file."""
    plain_executor()
    return Session.open(planned(precision, shape, **more), None, saved(scripted(model)))


def test_a_pure_exported_program_is_cast_throughout() -> None:
    torch.manual_seed(1)
    make, shape = NETWORKS["transformer"]
    file = exported(make().eval(), (torch.randn(8, *shape),))
    session = Session.open(
        planned("pure_bfloat16", shape), None, file, model_format="exported_program"
    )
    nodes = session.recording.module.graph.nodes
    types = {n.meta["dtype"] for n in nodes if "dtype" in n.meta and n.op == "call_function"}
    assert torch.bfloat16 in types
    # Only the answer is float32, and the statistics that a normalization hands its backward pass.
    wide = [n for n in nodes if n.meta.get("dtype") is torch.float32 and "aten" in str(n.target)]
    assert [str(node.target) for node in wide] == ["aten._to_copy.default"]
    assert all(x.precision is not None for x in session.measure().layers)


def own_answers(
    forward: Callable[[Tensor], Any], session: Session, x: Tensor
) -> list[Tensor | None]:
    """Output, gradients and buffers of one pass; buffers and generator are put back first."""
    model = session.model
    session.restore()
    torch.manual_seed(3)
    output = primary_output(forward(x)).float()
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    found = torch.autograd.grad(
        (output * weights).sum(), list(model.parameters.values()), allow_unused=True
    )
    kept = [buffer.clone() for buffer in model.buffers.values()]
    session.restore()
    return [output.detach(), *found, *kept]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("kind", ["scripted", "traced", "exported"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_graph_is_the_model_under_plain_autocast(
    network: str, kind: str, precision: str
) -> None:
    make, shape = NETWORKS[network]
    torch.manual_seed(1)
    model, example = make().train(), torch.randn(8, *shape)
    plain_executor()
    if kind == "exported":
        file, form = exported(model, (example,)), "exported_program"
    else:
        module = scripted(model) if kind == "scripted" else traced(model, example)
        file, form = saved(module), "torchscript"
    session = Session.open(planned(precision, shape), None, file, model_format=form)
    dtype = HALVES[precision]

    def plain(x: Tensor) -> Any:
        with torch.autocast("cpu", dtype):
            return session.model.module(x)

    fresh = torch.randn(8, *shape)
    ours, theirs = (own_answers(f, session, fresh) for f in (session.recording.module, plain))
    assert session.recorded
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)
    casts = [n for n in session.recording.module.graph.nodes if "_to_copy" in str(n.target)]
    assert any(node.meta["dtype"] is dtype for node in casts)


@pytest.mark.parametrize("precision", ["pure_bfloat16", "pure_float16"])
@pytest.mark.parametrize("network", NETWORKS)
def test_pure_is_the_model_after_to(network: str, precision: str) -> None:
    make, shape = NETWORKS[network]
    torch.manual_seed(1)
    model = make().train()
    session = opened(model, precision, shape)
    dtype = PRECISIONS[precision].stored
    assert {p.dtype for p in session.parameters.values()} == {dtype}
    halved = model.to(dtype)
    fresh = torch.randn(8, *shape)

    def plain(x: Tensor) -> Any:
        return halved(x.to(dtype))

    ours = own_answers(session.recording.module, session, fresh)
    torch.manual_seed(3)
    output = primary_output(plain(fresh)).float()
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    theirs = torch.autograd.grad((output * weights).sum(), list(halved.parameters()))
    assert torch.equal(ours[0], output)  # type: ignore[arg-type]
    for one, other in zip(ours[1:], theirs, strict=False):
        assert one is not None
        assert torch.equal(one, other)


class Faint(nn.Module):
    """A network whose answer is taken times a small number, in float32."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        he = lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")  # noqa: E731
        self.body = mlp(4, 64, nn.ReLU, init=he)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits.float() * self.factor


def test_zeros_are_counted_as_float16_makes_them() -> None:
    # Science check 9: N(0, 1e-7) gradients, of which .234 round to zero. The loss passes ±1/64.
    head = nn.Linear(4096, 1)
    nn.init.normal_(head.weight, 0.0, 64e-7)
    net = nn.Sequential(nn.Linear(64, 4096), head)
    session = opened(net, "float16", (64,), batch_size=64, seeds=1, batches=1, loss="l1")
    loss = session.measure().layers[0].precision
    assert loss is not None
    assert loss.underflow_fraction == pytest.approx(0.234, abs=0.02)
    lost = float((head.weight.abs() / 64 <= ROUNDS_TO_ZERO).float().mean())
    assert loss.underflow_fraction == pytest.approx(lost, abs=0.01)
    scaled = session.measure(({"kind": "loss_scaling", "loss_scale": 2.0**16},)).layers[0]
    assert scaled.precision is not None
    # Weights under 2^-25 are zero in float16 whatever the loss.
    assert scaled.precision.underflow_fraction == pytest.approx(0.0, abs=0.01)
    assert scaled.gradient.underflow_fraction_fp16 == scaled.precision.underflow_fraction


def test_what_is_lost_is_what_plain_autograd_loses() -> None:
    torch.manual_seed(0)
    net, scored = Faint(3e-5), nn.Linear(64, 64)
    net.body[2] = scored
    session = opened(net, "float16", (64,), seeds=1, batches=1, batch_size=32)
    measured = session.measure()
    batch = session.batch(0, 0)

    def gradients(enabled: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            hidden = net.body[:4](batch.inputs[0])
            output = net.body[4:](hidden).float() * net.factor
        loss = session.loss.compute(output, batch.target(output, session.loss))
        found: tuple[Tensor, ...] = torch.autograd.grad(loss, [hidden, scored.weight, scored.bias])
        return found

    half, wide = gradients(enabled=True), gradients(enabled=False)
    assert half[0].dtype is torch.float16
    present = wide[0][wide[0] != 0].abs()
    lost = float(((half[0] == 0) & (wide[0] != 0)).sum()) / present.numel()
    loss = measured.layers[1].precision
    assert loss is not None
    assert 0.05 < lost < 0.95
    assert loss.underflow_fraction == pytest.approx(lost, abs=0.01)
    assert loss.gradient_small == pytest.approx(float(present.quantile(0.05)), rel=0.05)
    assert loss.gradient_abs_max == pytest.approx(max(float(one.abs().max()) for one in wide))
    assert loss.activation_overflow == loss.gradient_overflow == 0


def test_flow_is_judged_as_a_loss_scale_leaves_it() -> None:
    torch.manual_seed(0)
    net = Faint(1e-7)
    wide = opened(net, "float32", (64,)).measure()
    half = opened(net, "float16", (64,)).measure()
    # Every gradient behind the head is zero without a scale ...
    assert all(layer.gradient.norm == 0.0 for layer in half.layers[:-1])
    assert any("loss scaled by" in note for note in half.notes)
    # ... and with one the profile is float32's.
    for own, other in zip(half.seeds, wide.seeds, strict=True):
        assert own.gradient_norm == pytest.approx(other.gradient_norm, rel=0.02)
    assert half.model.grad_norm.p50 == pytest.approx(wide.model.grad_norm.p50, rel=0.02)


def test_overflow_is_told_apart_from_what_float32_cannot_hold_either() -> None:
    torch.manual_seed(0)
    net = mlp(3, 32, nn.ReLU)
    with torch.no_grad():
        net.get_parameter("2.weight").mul_(1e6)
    layers = opened(net, "float16", (64,)).measure().layers
    losses = [layer.precision for layer in layers]
    assert all(loss is not None for loss in losses)
    counts = [loss.activation_overflow for loss in losses if loss is not None]
    assert counts[0] == 0
    assert counts[1] > 0
    assert losses[1] is not None
    assert losses[1].activation_abs_max is not None
    assert losses[1].activation_abs_max > 65504.0
    assert not any(
        layer.precision.activation_overflow
        for layer in opened(net, "bfloat16", (64,)).measure().layers
        if layer.precision is not None
    )
    with torch.no_grad():
        net.get_parameter("2.weight").mul_(1e38)
    ill = opened(net, "float16", (64,)).measure().layers[1]
    assert ill.activation.nonfinite_count
    assert ill.precision is not None
    assert ill.precision.activation_overflow == 0


def test_updates_too_small_for_bfloat16_are_counted() -> None:
    torch.manual_seed(0)
    net = mlp(2, 64, nn.Tanh)
    rates = {1e-1: 0.0, 1e-5: 0.9}
    shares = {}
    for rate in rates:
        plan = OptimizerPlan("adam", rate)
        layer = opened(net, "pure_bfloat16", (64,), optimizer=plan).measure().layers[1]
        shares[rate] = layer.parameters[-1].lost_update_fraction or 0.0
    assert shares[1e-1] < 0.01
    assert shares[1e-5] > 0.9
    # Adam's first step is the rate for every element: lost where it is less than half the
    # distance to the next number, 2^-8 of the weight rounded down to a power of two.
    session = opened(net, "pure_bfloat16", (64,), optimizer=OptimizerPlan("adam", 1e-3))
    found = {p.name: p.lost_update_fraction for x in session.measure().layers for p in x.parameters}
    weight = session.parameters["2.weight"].detach().float()
    distance = 2.0 ** (weight.abs().log2().floor() - 7)
    lost = float((distance / 2 > 1e-3).float().mean())
    assert found["2.weight"] == pytest.approx(lost, abs=0.02)
    mixed = opened(net, "bfloat16", (64,)).measure()
    assert all(p.lost_update_fraction is None for x in mixed.layers for p in x.parameters)


def test_what_has_no_kernel_is_named() -> None:
    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            coded: Tensor = self.encoder(x)
            return torch.cdist(coded, coded)

    with pytest.raises(ModelRaised, match=r"in pure_float16: .*not implemented.*_cdist_forward"):
        opened(Distances(), "pure_float16", (8,))
    with pytest.raises(ModelRaised, match=r"after encoder.bias was read"):
        opened(Distances(), "pure_float16", (8,))
    assert opened(Distances(), "float16", (8,)).measure().layers


SPEC: dict[str, Any] = {
    "input": {"shape": [1, 8, 8]},
    "layers": [
        {"name": "conv", "type": "Conv2d", "args": {"out_channels": 8, "kernel_size": 3}},
        {"type": "ReLU"},
        {"type": "Flatten"},
        {"name": "fc", "type": "Linear", "args": {"out_features": 32}},
        {"type": "ReLU"},
        {"name": "head", "type": "Linear", "args": {"out_features": 10}},
    ],
}
EDITS: list[dict[str, Any]] = [
    {"kind": "activation", "layers": ["conv"], "activation": "Tanh"},
    {
        "kind": "normalization",
        "layers": [{"after": "fc", "type": "LayerNorm", "args": {"normalized_shape": [32]}}],
    },
    {
        "kind": "normalization",
        "layers": [{"after": "conv", "type": "BatchNorm2d", "args": {"num_features": 8}}],
    },
    {
        "kind": "initializer",
        "parameters": [{"parameter": "fc.weight", "initializer": "orthogonal_"}],
    },
]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "pure_bfloat16", "pure_float16"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e["kind"])
def test_a_changed_model_is_measured_in_the_same_precision(
    precision: str, edit: dict[str, Any]
) -> None:
    plan = ProbePlan(batch_size=16, batches=1, seeds=2, trial_steps=2, precision=precision)
    session = Session.open(plan, resolve(SPEC), None)
    wide = Session.open(
        ProbePlan(batch_size=16, batches=1, seeds=2, trial_steps=2), resolve(SPEC), None
    )
    plain, changed = session.measure(), session.measure((edit,))
    assert changed.layers[0].name == "conv"
    assert changed.model.loss_at_start != plain.model.loss_at_start
    expected = wide.measure((edit,)).model
    assert changed.model.loss_at_start == pytest.approx(expected.loss_at_start, rel=0.02)
    assert changed.model.total_gain == pytest.approx(expected.total_gain, rel=0.05)
    assert session.trial((edit,)).runs
    assert session.measure() == plain


PLAIN: dict[str, Any] = {
    "input": {"shape": [16]},
    "layers": [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 16}},
        {"name": "act1", "type": "Sigmoid"},
        {"name": "norm", "type": "LayerNorm"},
        {"name": "fc2", "type": "Linear", "args": {"out_features": 16}},
        {"name": "act2", "type": "Sigmoid"},
        {"name": "head", "type": "Linear", "args": {"out_features": 4}},
    ],
}
STEPS: dict[str, Any] = {
    "input": {"shape": [5, 4]},
    "layers": [
        {"name": "rnn", "type": "RNN", "args": {"hidden_size": 8}},
        {"name": "last", "type": "LastStep"},
        {"name": "head", "type": "Linear", "args": {"out_features": 4}},
    ],
}
CELL = {"cell_args": {"rnn": {"input_size": 4, "hidden_size": 8}}}
DEEPER_EDITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (PLAIN, {"kind": "residual", "layers": ["fc1", "fc2"]}),
    (PLAIN, {"kind": "pretraining", "layers": ["fc1", "fc2"], "steps": 5, "lr": 1e-2}),
    (
        PLAIN,
        {
            "kind": "input_scaling",
            "input": 0,
            "normalization": {"type": "BatchNorm1d", "args": {"num_features": 16}},
        },
    ),
    (STEPS, {"kind": "recurrent_cell", "layers": ["rnn"], "cell": "GRU", **CELL}),
    (STEPS, {"kind": "recurrent_cell", "layers": ["rnn"], "cell": "LSTM", **CELL}),
]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "pure_bfloat16"])
@pytest.mark.parametrize(
    ("spec", "edit"), DEEPER_EDITS, ids=lambda e: e.get("cell", e.get("kind", ""))
)
def test_structure_changes_in_16_bits(
    precision: str, spec: dict[str, Any], edit: dict[str, Any]
) -> None:
    def measured(name: str) -> float:
        plan = ProbePlan(batch_size=16, batches=1, seeds=1, trial_steps=2, precision=name)
        session = Session.open(plan, resolve(spec), None)
        found = session.measure((edit,)).model.loss_at_start
        assert found is not None
        assert found != session.measure().model.loss_at_start
        assert session.trial((edit,)).runs
        return found

    assert measured(precision) == pytest.approx(measured("float32"), rel=0.02)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "pure_bfloat16", "pure_float16"])
def test_a_spec_has_the_numbers_of_float32_to_rounding(precision: str) -> None:
    plan = ProbePlan(batch_size=16, batches=2, seeds=2, trial_steps=0)
    wide = Session.open(plan, resolve(SPEC), None).measure()
    half = Session.open(
        ProbePlan(batch_size=16, batches=2, seeds=2, trial_steps=0, precision=precision),
        resolve(SPEC),
        None,
    ).measure()
    assert [layer.op for layer in half.layers] == [layer.op for layer in wide.layers]
    assert half.model.gradient_check == wide.model.gradient_check is not None
    for one, other in zip(half.layers, wide.layers, strict=True):
        assert one.activation.rms == pytest.approx(other.activation.rms, rel=0.02)
        assert one.gradient.norm == pytest.approx(other.gradient.norm, rel=0.02)
        assert one.parameters[0].grad_norm == pytest.approx(other.parameters[0].grad_norm, rel=0.05)
        assert one.precision is not None
        assert other.precision is None


def test_float32_and_float64_run_the_model_untouched() -> None:
    module = nn.Linear(2, 2)
    model = loaded("torchscript", module, mode="train", dtype=torch.float32)
    x = torch.ones(3, 2)
    assert torch.equal(model.run(x), module(x))
    assert not PRECISIONS["float32"].half
    assert not PRECISIONS["float64"].half
