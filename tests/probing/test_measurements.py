"""Every statistic against plain autograd on the eager model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused, ProbeOutOfMemory
from service.domain.measurements import LayerMeasurements, Measurements
from service.domain.probe_plan import InputPlan, Look, ProbePlan
from service.probing.gradients import ParameterRecord
from service.probing.loaders.loaded import loaded
from service.probing.reductions import Size
from service.probing.session import Session
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

CLOSE = 1e-5


def plan_for(*shape: int, **given: Any) -> ProbePlan:
    defaults: dict[str, Any] = {"batch_size": 16, "batches": 3, "seeds": 1}
    return ProbePlan(inputs=(InputPlan(shape),), **{**defaults, **given})


def opened(model: nn.Module, plan: ProbePlan) -> Session:
    return Session(loaded("torchscript", model, mode=plan.mode, dtype=torch.float32), plan)


def layer(measured: Measurements, name: str) -> LayerMeasurements:
    return next(found for found in measured.layers if found.name == name)


class Reference:
    """Outputs and gradients of named modules in the eager model, batch by batch."""

    def __init__(self, session: Session, model: nn.Module, entry: str, output: str) -> None:
        self.entries: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.entry_gradients: list[Tensor] = []
        self.parameter_gradients: dict[str, list[Tensor]] = {}
        self.losses: list[float] = []
        for number in range(session.plan.batches):
            self._run(session, model, entry, output, number)

    def _run(
        self, session: Session, model: nn.Module, entry: str, output: str, number: int
    ) -> None:
        batch = session.batch(0, number)
        seen: dict[str, Tensor] = {}
        hooks = [
            model.get_submodule(entry).register_forward_pre_hook(
                lambda _, args: seen.__setitem__("entry", args[0])
            ),
            model.get_submodule(output).register_forward_hook(
                lambda _, __, out: seen.__setitem__("output", out)
            ),
        ]
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        torch.manual_seed(batch.seed)
        inputs = tuple(value.clone().requires_grad_() for value in batch.inputs)
        value = model(*inputs)
        loss = session.loss.compute(value, batch.target(value, session.loss))
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(
            loss, [seen["output"], *parameters.values()], retain_graph=True
        )
        (entry_gradient,) = torch.autograd.grad(seen["output"], seen["entry"], gradients[0])
        with torch.no_grad():
            for name, kept in buffers.items():
                model.get_buffer(name).copy_(kept)
        for hook in hooks:
            hook.remove()
        self.losses.append(loss.item())
        self.entries.append(seen["entry"].detach())
        self.outputs.append(seen["output"].detach())
        self.gradients.append(gradients[0])
        self.entry_gradients.append(entry_gradient)
        for name, gradient in zip(parameters, gradients[1:], strict=True):
            self.parameter_gradients.setdefault(name, []).append(gradient)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def geometric(values: list[float]) -> float:
    return math.exp(mean([math.log(value) for value in values]))


def assert_layer(measured: LayerMeasurements, reference: Reference) -> None:
    def close(ours: float | None, theirs: float) -> None:
        assert ours == pytest.approx(theirs, rel=CLOSE, abs=1e-12)

    ys, gs = reference.outputs, reference.gradients
    # A mean near 0 is what is left of larger numbers.
    assert measured.activation.mean == pytest.approx(
        mean([y.double().mean().item() for y in ys]), rel=CLOSE, abs=CLOSE * ys[0].std().item()
    )
    close(measured.activation.std, mean([y.double().std(correction=0).item() for y in ys]))
    close(measured.activation.rms, mean([y.double().square().mean().sqrt().item() for y in ys]))
    close(measured.activation.abs_max, max(y.abs().max().item() for y in ys))
    close(measured.activation.zero_fraction, mean([(y == 0).float().mean().item() for y in ys]))
    close(measured.gradient.rms, geometric([g.double().square().mean().sqrt().item() for g in gs]))
    close(measured.gradient.norm, geometric([g.double().norm().item() for g in gs]))
    close(measured.gradient.abs_max, max(g.abs().max().item() for g in gs))
    close(measured.gradient.zero_fraction, mean([(g == 0).float().mean().item() for g in gs]))
    gains = [
        (below.double().norm() / above.double().norm()).item()
        for below, above in zip(reference.entry_gradients, gs, strict=True)
    ]
    close(measured.gradient.gain, geometric(gains))
    assert measured.spread["gradient.gain"] == pytest.approx((min(gains), max(gains)), rel=CLOSE)
    cosines = [cosine(y) for y in ys]
    assert measured.activation.correlation == pytest.approx(mean(cosines), abs=1e-5)
    samples = torch.cat(
        [
            below.flatten(1).double().norm(dim=1) / above.flatten(1).double().norm(dim=1)
            for below, above in zip(reference.entry_gradients, gs, strict=True)
        ]
    )
    for name, share in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
        close(measured.gradient.gain_quantiles[name], torch.quantile(samples, share).item())


def cosine(y: Tensor) -> float:
    rows = torch.nn.functional.normalize(y.flatten(1).double(), dim=1)
    products = rows @ rows.T
    count = len(rows)
    return ((products.sum() - products.diagonal().sum()) / (count * (count - 1))).item()


def assert_parameters(measured: Measurements, model: nn.Module, reference: Reference) -> None:
    values = dict(model.named_parameters())
    seen = {found.name: found for one in measured.layers for found in one.parameters}
    assert set(seen) == set(values)
    for name, gradients in reference.parameter_gradients.items():
        ours, stacked = seen[name], torch.stack(gradients).double()
        norms = [gradient.norm().item() for gradient in stacked]
        value_norm = values[name].detach().double().norm().item()
        assert ours.grad_norm == pytest.approx(mean(norms), rel=CLOSE)
        assert ours.grad_rms == pytest.approx(
            mean(norms) / math.sqrt(stacked[0].numel()), rel=CLOSE
        )
        assert ours.abs_max == values[name].detach().abs().max().item()
        if value_norm:
            assert ours.grad_to_weight == pytest.approx(mean(norms) / value_norm, rel=CLOSE)
        noise = (stacked - stacked.mean(0)).flatten(1).square().sum(1).mean().sqrt().item()
        assert ours.snr == pytest.approx(stacked.mean(0).norm().item() / noise, rel=1e-4)
        assert ours.connected


@pytest.mark.parametrize(
    ("norms", "of_sum", "snr"),
    [
        ([3.0, 4.0], 5.0, 2.5 / math.sqrt(12.5 - 6.25)),
        ([1.0, 1.0], 2.0, 1000.0),  # alike as far as float32 tells
        ([1.0, 1.0], 2.0000001, 1000.0),
        ([0.0, 0.0], 0.0, None),
        ([1.0, None], 1.0, None),
        ([1.0], 1.0, None),
    ],
)
def test_noise_is_told_from_rounding(
    norms: list[float | None], of_sum: float, snr: float | None
) -> None:
    record = ParameterRecord(Size(1, 1.0, 1.0, 0), norms=norms, total_norm=of_sum)
    assert record.snr() == (None if snr is None else pytest.approx(snr, rel=1e-6))


@pytest.mark.parametrize("form", ["eager", "torchscript"])
@pytest.mark.parametrize(
    ("make", "shape", "name", "entry", "output"),
    [
        (lambda: mlp(4, 32, nn.ReLU), (64,), "4", "4", "5"),
        (lambda: mlp(4, 32, nn.Sigmoid), (64,), "0", "0", "1"),
        (ConvNet, (1, 8, 8), "head", "head", "head"),
        (lambda: LastStepRNN("LSTM"), (5, 8), "head", "head", "head"),
        (lambda: LastStepRNN("GRU"), (5, 8), "head", "head", "head"),
        (lambda: transformer(norm_first=True), (6, 16), "1", "1", "1"),
        (
            lambda: transformer(norm_first=True),
            (6, 16),
            "0.layers.1.linear1",
            "0.layers.1.norm2",
            "0.layers.1.dropout",
        ),
        (resnet, (3, 8, 8), "3.conv1", "3.conv1", "3.relu1"),
    ],
)
def test_statistics_equal_plain_autograd(
    make: Any, shape: tuple[int, ...], name: str, entry: str, output: str, form: str
) -> None:
    torch.manual_seed(2)
    model = make().train()
    plan = plan_for(*shape)
    if form == "eager":
        session = opened(model, plan)
    else:
        session = Session.open(plan, None, saved(scripted(model)))
    measured = session.measure()
    reference = Reference(session, model, entry, output)
    assert_layer(layer(measured, name), reference)
    assert_parameters(measured, model, reference)
    assert measured.model.loss_at_start == pytest.approx(mean(reference.losses), rel=CLOSE)


def named(name: str, layer_type: str, *inputs: str, **args: Any) -> dict[str, Any]:
    node: dict[str, Any] = {"name": name, "type": layer_type, "args": args}
    return node | ({"inputs": list(inputs)} if inputs else {})


def recurrent(layer_type: str) -> list[dict[str, Any]]:
    return [
        named("rnn", layer_type, hidden_size=16, num_layers=2),
        named("last", "LastStep"),
        named("head", "Linear", out_features=10),
    ]


ENCODER = [
    named("embed", "Linear", out_features=16),
    named("norm1", "LayerNorm", "embed"),
    named("attention", "MultiheadAttention", "norm1", num_heads=4),
    named("sum1", "Add", "embed", "attention"),
    named("norm2", "LayerNorm", "sum1"),
    named("linear1", "Linear", "norm2", out_features=32),
    named("gelu", "GELU", "linear1"),
    named("linear2", "Linear", "gelu", out_features=16),
    named("sum2", "Add", "sum1", "linear2"),
    named("head", "Linear", "sum2", out_features=10),
]
CONVOLUTIONS = [
    named("conv1", "Conv2d", out_channels=4, kernel_size=3, padding=1),
    named("bn1", "BatchNorm2d"),
    named("act1", "ReLU"),
    named("conv2", "Conv2d", out_channels=8, kernel_size=3, stride=2),
    named("act2", "SiLU"),
    named("drop", "Dropout", p=0.2),
    named("flat", "Flatten"),
    named("head", "Linear", out_features=10),
]


@pytest.mark.parametrize(
    ("layers", "shape", "name", "entry", "output"),
    [
        (
            [
                *[named("fc1", "Linear", out_features=32), named("act1", "Tanh")],
                *[named("fc2", "Linear", out_features=32), named("act2", "ELU")],
                named("head", "Linear", out_features=10),
            ],
            [64],
            "fc2",
            "fc2",
            "act2",
        ),
        (CONVOLUTIONS, [1, 8, 8], "conv1", "conv1", "act1"),
        (CONVOLUTIONS, [1, 8, 8], "conv2", "conv2", "drop"),
        (recurrent("LSTM"), [5, 8], "rnn", "rnn", "last"),
        (recurrent("GRU"), [5, 8], "rnn", "rnn", "last"),
        (recurrent("RNN"), [5, 8], "rnn", "rnn", "last"),
        (ENCODER, [6, 16], "linear1", "norm2", "gelu"),
        (ENCODER, [6, 16], "linear2", "linear2", "sum2"),
        (ENCODER, [6, 16], "head", "head", "head"),
    ],
)
def test_statistics_of_a_spec_equal_plain_autograd(
    layers: list[dict[str, Any]], shape: list[int], name: str, entry: str, output: str
) -> None:
    plan = ProbePlan(batch_size=16, batches=3, seeds=1)
    session = Session.open(plan, resolve({"input": {"shape": shape}, "layers": layers}), None)
    measured = session.measure()
    reference = Reference(session, session.model.module, entry, output)
    assert_layer(layer(measured, name), reference)
    assert_parameters(measured, session.model.module, reference)
    assert measured.model.loss_at_start == pytest.approx(mean(reference.losses), rel=CLOSE)


def test_a_chain_of_gains_is_the_total() -> None:
    torch.manual_seed(0)
    measured = opened(mlp(6, 32, nn.Tanh), plan_for(64)).measure()
    gains = [one.gradient.gain for one in measured.layers[1:]]
    assert measured.model.total_gain == pytest.approx(math.prod(g or 0.0 for g in gains), rel=1e-6)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = ConvNet()
    session = opened(model, plan_for(1, 8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = session.measure()
    session.measure(after_steps=2)
    session.trial()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert session.measure() == first


@pytest.mark.parametrize("changes", [(), ({"kind": "activation", "layers": ["0"],
                                           "activation": "ReLU"},)])  # fmt: skip
def test_a_look_is_the_beginning_of_the_whole_probe(changes: tuple[dict[str, Any], ...]) -> None:
    torch.manual_seed(0)
    model = mlp(3, 16, nn.Tanh)
    whole = opened(model, plan_for(64, seeds=3, batches=4))
    small = opened(model, plan_for(64, seeds=1, batches=2))
    seen = whole.measure(changes, look=Look(1, 2))
    assert seen == small.measure(changes)
    assert len(seen.seeds) == 1
    assert seen.model.grad_norm.n == 2
    assert whole.measure(changes, look=Look(9, 9)) == whole.measure(changes)


def test_a_short_training_is_given_up_when_its_time_is_over() -> None:
    torch.manual_seed(0)
    session = opened(mlp(3, 16, nn.ReLU), plan_for(64))
    before = {name: value.clone() for name, value in session.parameters.items()}
    with pytest.raises(ChangeRefused, match="time was over"):
        session.trial(seconds=0.0)
    assert all(torch.equal(value, before[name]) for name, value in session.parameters.items())
    assert session.trial(seconds=600.0) == session.trial()


def test_settling_steps_open_a_zero_head() -> None:
    torch.manual_seed(0)
    model = mlp(2, 16, nn.ReLU)
    nn.init.zeros_(dict(model.named_parameters())["4.weight"])
    session = opened(model, plan_for(64))
    assert layer(session.measure(), "0").gradient.norm == 0.0
    assert (layer(session.measure(after_steps=1), "0").gradient.norm or 0.0) > 0.0


def test_sigmoid_at_default_initialization_passes_a_seventh_per_layer() -> None:
    spec = {
        "input": {"shape": [64]},
        "layers": [
            {
                "name": "body",
                "repeat": 20,
                "layers": [
                    {"name": "fc", "type": "Linear", "args": {"out_features": 256}},
                    {"type": "Sigmoid"},
                ],
            },
            {"name": "head", "type": "Linear", "args": {"out_features": 10}},
        ],
    }
    measured = Session.open(ProbePlan(seeds=3), resolve(spec), None).measure()
    gains = sorted(one.gradient.gain or 0.0 for one in measured.layers[:20])
    # Theory: σ_w² E[σ'(z)²] with σ_w² = 1/3 gives .1410 (Schoenholz et al. 2017).
    assert gains[10] == pytest.approx(0.141, rel=0.03)
    assert [one.name for one in measured.layers[:2]] == ["body.0.fc", "body.1.fc"]
    assert {one.nonlinearity for one in measured.layers[:20]} == {"sigmoid"}


def test_the_same_network_as_spec_and_as_torchscript() -> None:
    spec = {
        "input": {"shape": [1, 8, 8]},
        "layers": [
            {"name": "conv", "type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3}},
            {"name": "norm", "type": "BatchNorm2d"},
            {"name": "act", "type": "GELU"},
            {"name": "flat", "type": "Flatten"},
            {"name": "hidden", "type": "Linear", "args": {"out_features": 16}},
            {"name": "act2", "type": "SELU"},
            {"name": "head", "type": "Linear", "args": {"out_features": 10}},
        ],
    }
    plan = ProbePlan(batch_size=16, batches=2, seeds=1)
    from_spec = Session.open(plan, resolve(spec), None)
    twin = nn.Sequential()
    for name, module in (
        ("conv", nn.Conv2d(1, 4, 3)),
        ("norm", nn.BatchNorm2d(4)),
        ("act", nn.GELU()),
        ("flat", nn.Flatten()),
        ("hidden", nn.Linear(4 * 36, 16)),
        ("act2", nn.SELU()),
        ("head", nn.Linear(16, 10)),
    ):
        twin.add_module(name, module)
    with torch.no_grad():
        for name, value in twin.named_parameters():
            value.copy_(from_spec.parameters[name])
    inputs = (InputPlan((1, 8, 8)),)
    plan = ProbePlan(inputs=inputs, batch_size=16, batches=2, seeds=1)
    from_file = Session.open(plan, None, saved(scripted(twin)))
    assert from_file.measure() == from_spec.measure()


class Switching(nn.Module):
    """Takes one path for light batches, another for heavy ones."""

    def __init__(self) -> None:
        super().__init__()
        self.light = nn.Linear(8, 4)
        self.heavy = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            return torch.relu(self.light(x))
        return torch.tanh(self.heavy(x))


def test_a_model_whose_path_depends_on_its_data_is_measured_on_each_path() -> None:
    plan = plan_for(8, batches=8)
    session = Session.open(plan, None, saved(scripted(Switching())))
    assert not session.facts().recorded
    measured = session.measure()
    assert measured.notes[0].startswith("data_dependent")


def test_a_model_without_parameters_is_measured_by_its_input_gradient() -> None:
    class Logistic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(6):
                x = 3.5 * x * (1 - x)
            return x

    plan = ProbePlan(
        inputs=(InputPlan((1,), distribution="uniform"),), batches=2, loss="output_mean_square"
    )
    measured = Session.open(plan, None, saved(scripted(Logistic()))).measure()
    assert measured.layers == ()
    assert (measured.model.input_grad_norm or 0.0) > 0.0


@pytest.mark.parametrize(("baked", "asked"), [(64, None), (1, None), (7, 7)])
def test_a_traced_model_keeps_the_batch_size_it_was_traced_with(
    baked: int, asked: int | None
) -> None:
    class Baked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x.reshape(baked, 8))
            return out

    plan = plan_for(8, batch_size=asked)
    session = Session.open(plan, None, saved(traced(Baked(), torch.randn(baked, 8))))
    assert session.facts().batch_size == baked


def test_a_slow_model_is_probed_less_and_says_so() -> None:
    plan = plan_for(64, batch_size=None, batches=4, seeds=3, budget_seconds=0.002)
    session = opened(mlp(30, 64, nn.ReLU), plan)
    measured = session.measure()
    assert measured.notes[0].startswith("budget: batches 4 → ")
    assert len(measured.seeds) < 3


def test_a_model_that_cannot_fit_is_refused_with_the_estimate() -> None:
    with pytest.raises(ProbeOutOfMemory, match="needs about"):
        Session(
            loaded("torchscript", mlp(3, 1024, nn.ReLU), mode="train", dtype=torch.float32),
            plan_for(64, batch_size=None),
            memory_mb=16,
        )


def test_memory_bounds_the_automatic_batch() -> None:
    model = loaded("torchscript", mlp(3, 512, nn.ReLU), mode="train", dtype=torch.float32)
    roomy = Session(model, plan_for(64, batch_size=None), memory_mb=4096)
    tight = Session(model, plan_for(64, batch_size=None), memory_mb=12)
    assert roomy.batch_size == 64
    assert 1 <= tight.batch_size < 64
    assert any(note.startswith("memory: ") for note in tight.measure().notes)


def test_vanished_and_exploded_gradients_keep_their_numbers() -> None:
    torch.manual_seed(0)
    small = opened(mlp(12, 32, nn.Tanh, init=lambda w: nn.init.normal_(w, std=1e-3)), plan_for(64))
    total = small.measure().model.total_gain
    assert total is not None
    assert 0 < total < 1e-25
    plan = plan_for(64, loss="output_mean_square")
    large = opened(mlp(12, 32, nn.Identity, init=lambda w: nn.init.normal_(w, std=100.0)), plan)
    first = large.measure().layers[0].gradient
    assert first.nonfinite_count > 0 or (first.norm is not None and first.norm > 1e20)


class RootOfWeights(nn.Module):
    """√|θ| is 0 at 0, where its slope is infinite: finite weights, finite outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 8))
        with torch.no_grad():
            self.weight[0, 2:4] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.linear(x, self.weight.abs().sqrt())
        return y


def test_a_gradient_that_is_not_finite_is_counted_where_the_weights_are() -> None:
    model = RootOfWeights()
    session = opened(model, plan_for(8, batches=3, seeds=2, loss="output_mean_square"))
    count = 0
    for seed, number in ((seed, number) for seed in range(2) for number in range(3)):
        output = model(*session.batch(seed, number).inputs)
        (gradient,) = torch.autograd.grad(output.square().mean(), [model.weight])
        count += int((~gradient.isfinite()).sum())
    assert count > 0
    (parameter,) = session.measure().layers[0].parameters
    assert parameter.grad_nonfinite_count == count
    assert parameter.nonfinite_count == 0
    assert parameter.grad_norm is None
    assert parameter.connected


@pytest.mark.parametrize("activation", [nn.LogSigmoid, nn.Softplus, nn.SELU, nn.Hardsigmoid])
def test_saturating_activations_are_watched(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = mlp(2, 16, activation, init=lambda w: nn.init.normal_(w, std=2.0))
    measured = opened(model, plan_for(64)).measure()
    share = measured.layers[0].activation.saturated_fraction
    assert share is not None
    assert 0.2 < share < 1.0


def test_correlation_tells_nearly_equal_samples_apart() -> None:
    class Almost(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(1.0 + 1e-5 * x)
            return out

    correlation = opened(Almost(), plan_for(8)).measure().layers[0].activation.correlation
    assert correlation is not None
    assert 1e-12 < 1.0 - correlation < 1e-8
