"""Measured numbers against numbers known from theory: six initializations, float64.

Tolerances are those of wide networks at these widths; what theory says of each is cited where it
is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.diagnosis import diagnose
from service.domain.architecture import resolve
from service.domain.measurements import LayerMeasurements, Measurements
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from service.theory.gains import critical_point, critical_weight_variance
from service.theory.nonlinearities import Nonlinearity, nonlinearity
from tests.probing.models import saved, scripted

SEEDS = 6
Init = dict[str, Any]
XAVIER: Init = {"name": "xavier_normal_"}
HE: Init = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}


def linear(
    name: str, width: int, init: Init | None = None, *, bias: bool = False
) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "name": name,
        "type": "Linear",
        "args": {"out_features": width, "bias": bias},
    }
    return layer | ({"init": {"weight": init}} if init else {})


def stack(
    width: int,
    depth: int,
    *follows: str,
    init: Init | None = XAVIER,
    bias: bool = False,
    head: bool = True,
) -> list[dict[str, Any]]:
    """`depth` times a linear layer and what follows it, and a head of ten classes."""
    layers: list[dict[str, Any]] = []
    for index in range(depth):
        layers.append(linear(f"fc{index + 1}", width, init, bias=bias))
        layers += [{"name": f"{kind.lower()}{index + 1}", "type": kind} for kind in follows]
    return [*layers, linear("head", 10, XAVIER)] if head else layers


def opened(layers: list[dict[str, Any]], width: int, **plan: Any) -> Session:
    defaults: dict[str, Any] = {"batch_size": 64, "batches": 1, "seeds": SEEDS}
    return Session.open(
        ProbePlan(precision="float64", budget_seconds=600, **{**defaults, **plan}),
        resolve({"input": {"shape": [width]}, "layers": layers}),
        None,
    )


def measured(layers: list[dict[str, Any]], width: int, **plan: Any) -> Measurements:
    return opened(layers, width, **plan).measure()


def hidden(found: Measurements, first: int = 1) -> tuple[LayerMeasurements, ...]:
    """The repeated layers: not the first ones, whose input is another, nor the head."""
    return found.layers[first:-1]


def geometric(values: Sequence[float | None]) -> float:
    assert all(values)
    return math.exp(sum(math.log(value) for value in values if value) / len(values))


def gain_of(layers: Sequence[LayerMeasurements]) -> float:
    return geometric([layer.gradient.gain for layer in layers])


@cache
def relu_stack(init: str | None) -> Measurements:
    """Width 512, depth 20."""
    how = None if init is None else {"xavier": XAVIER, "he": HE}[init]
    return measured(stack(512, 20, "ReLU", init=how, bias=init is None), 512)


# 1. σ_w²/2 per layer (He et al. 2015): 1/√6 for torch's default, 1/√2 for Xavier.


def test_relu_at_the_default_initialization() -> None:
    assert gain_of(hidden(relu_stack(None))) == pytest.approx(0.4082, rel=0.015)


def test_relu_with_xavier() -> None:
    assert gain_of(hidden(relu_stack("xavier"))) == pytest.approx(0.7071, rel=0.015)


def test_weight_gradients_of_relu_with_xavier_do_not_show_the_decay() -> None:
    """⟨W, ∂loss/∂W⟩ is the same at every layer, so the norms are: the trap of judging decay by
    them."""
    ratios = []
    for seed in relu_stack("xavier").seeds:
        norms = seed.weight_gradient_norm[1:20]
        assert norms[0] is not None
        assert norms[-1] is not None
        ratios.append((norms[0] / norms[-1]) ** (1 / (len(norms) - 1)))
    assert geometric(ratios) == pytest.approx(1.0, rel=0.02)


# 2. The recursion over finite depth (Poole et al. 2016), from unit pre-activations at the first of
# twenty layers to those at the last: nineteen gains.


def test_sigmoid_with_xavier() -> None:
    found = measured(stack(256, 20, "Sigmoid"), 256)
    assert gain_of(found.layers[:19]) == pytest.approx(0.2346, rel=0.01)


def test_tanh_with_xavier_over_twenty_layers() -> None:
    found = measured(stack(256, 20, "Tanh"), 256)
    total = math.prod(layer.gradient.gain or 0.0 for layer in found.layers[:19])
    assert total == pytest.approx(0.1946, rel=0.05)


def test_tanh_with_a_gain_of_five_thirds_explodes() -> None:
    init = {"name": "xavier_normal_", "args": {"gain": 5 / 3}}
    found = measured(stack(256, 20, "Tanh", init=init), 256)
    assert gain_of(found.layers[:19]) == pytest.approx(1.0834, rel=0.01)


# 3. Batch normalization (Yang et al. 2019): π/(π - 1) with ReLU, (B - 2)/(B - 3) without.


def test_batch_normalization_with_relu() -> None:
    found = measured(stack(256, 8, "BatchNorm1d", "ReLU"), 256, batch_size=512)
    assert gain_of(hidden(found)) ** 2 == pytest.approx(math.pi / (math.pi - 1), rel=0.01)


@pytest.mark.parametrize(("batch", "squared", "within"), [(8, 1.2, 0.05), (32, 1.0345, 0.01)])
def test_batch_normalization_of_a_linear_layer(batch: int, squared: float, within: float) -> None:
    """Where the gradient has been through a batch normalization before: not the last layer."""
    found = measured(stack(512, 20, "BatchNorm1d"), 512, batch_size=batch)
    assert gain_of(hidden(found)[:-1]) ** 2 == pytest.approx(squared, rel=within)


# 4. Layer normalization: E[φ'²]/E[φ²] at unit pre-activations.


@pytest.mark.parametrize(
    ("activation", "squared", "within"),
    [("Tanh", 1.1778, 0.015), ("Sigmoid", 0.1528, 0.02), ("GELU", 1.0720, 0.025)],
)
def test_layer_normalization(activation: str, squared: float, within: float) -> None:
    found = measured(stack(512, 16, "LayerNorm", activation), 512)
    assert gain_of(hidden(found)) ** 2 == pytest.approx(squared, rel=within)


# 5. Residual blocks, linear branches: (1 + a²)^L, and L + 1 where the branch is normalised first.


def residual(width: int, blocks: int, scale: float, *, normalised: bool = False) -> Measurements:
    init = {"name": "normal_", "args": {"std": scale / math.sqrt(width)}}
    layers = [linear("stem", width, XAVIER)]
    stream = "stem"
    for block in range(blocks):
        source = stream
        if normalised:
            source = f"norm{block}"
            layers.append({"name": source, "type": "LayerNorm", "inputs": [stream]})
        layers.append(linear(f"fc{block}", width, init) | {"inputs": [source]})
        layers.append({"name": f"add{block}", "type": "Add", "inputs": [stream, f"fc{block}"]})
        stream = f"add{block}"
    return measured([*layers, linear("head", 10, XAVIER)], width)


def squared_growth(found: Measurements) -> float:
    """Of the gradient, from the last block's output to the stem's."""
    first, last = found.layers[0].gradient.norm, found.layers[-2].gradient.norm
    assert first is not None
    assert last is not None
    return (first / last) ** 2


def test_residual_blocks() -> None:
    assert squared_growth(residual(256, 20, 1.0)) == pytest.approx(2.0**20, rel=0.2)


def test_residual_blocks_scaled_by_depth() -> None:
    assert squared_growth(residual(256, 20, 1 / math.sqrt(20))) == pytest.approx(2.653, rel=0.05)


def test_pre_norm_residual_blocks() -> None:
    assert squared_growth(residual(512, 20, 1.0, normalised=True)) == pytest.approx(21, rel=0.1)


# 6. Variance over initializations 5·Σ1/n for ReLU (Hanin & Nica 2020).


def test_scatter_of_the_gain_over_initializations() -> None:
    found = measured(stack(256, 20, "ReLU", init=HE), 256, batch_size=1, seeds=200)
    assert len(found.seeds) == 200
    logs = [
        2 * sum(math.log(gain) for gain in seed.gradient_gain[:20] if gain) for seed in found.seeds
    ]
    mean = sum(logs) / len(logs)
    variance = sum((log - mean) ** 2 for log in logs) / (len(logs) - 1)
    assert variance == pytest.approx(0.396, rel=0.25)


# 7. A bias-free ReLU network is homogeneous in each weight (Euler).


def test_weights_and_their_gradients_have_one_inner_product() -> None:
    session = opened(stack(64, 8, "ReLU", init=HE), 64, seeds=1)
    batch = session.batch(0, 0)
    loss = session.loss.compute(
        session.recording.module(*batch.inputs),
        batch.target(session.recording.module(*batch.inputs), session.loss),
    )
    weights = list(session.parameters.values())
    gradients = torch.autograd.grad(loss, weights)
    products = [
        (weight * gradient).sum().item()
        for weight, gradient in zip(weights, gradients, strict=True)
    ]
    assert products == pytest.approx([products[0]] * 9, rel=1e-12)


# 8. Critical points: where neither signal nor gradient changes with depth.


def test_critical_points() -> None:
    tanh = nonlinearity("tanh")
    assert tanh is not None
    assert critical_weight_variance(tanh, 0.05) == pytest.approx(1.76095, rel=1e-4)
    for name, weight, bias in (("gelu", 1.408211, 0.415839), ("silu", 1.409966, 0.745079)):
        point = critical_point(name)
        assert point is not None
        assert (point.weight_gain, point.bias_std) == pytest.approx((weight, bias), rel=1e-4)


def test_a_network_at_the_critical_point_passes_the_gradient() -> None:
    point = critical_point("gelu")
    assert point is not None
    layers = stack(256, 20, "GELU", bias=True)
    std = point.weight_gain / math.sqrt(256)
    for layer in layers[:-1:2]:
        layer["init"] = {
            "weight": {"name": "normal_", "args": {"std": std}},
            "bias": {"name": "normal_", "args": {"std": point.bias_std}},
        }
    assert gain_of(hidden(measured(layers, 256))) == pytest.approx(1.0, rel=0.03)


# 9. Half precision keeps nothing at or under 2⁻²⁵.


@pytest.mark.parametrize(("scaling", "lost"), [(1.0, 0.234), (2.0**16, 0.0)])
def test_half_precision_loses_small_gradients(scaling: float, lost: float) -> None:
    """The mean square error of N zeros against targets from N(0, 1) has the gradient -2/N times
    the target; a multiple of the identity makes it N(0, 1e-7²) at the layer below."""
    width, batch = 512, 64
    below, above = nn.Linear(8, width, bias=False), nn.Linear(width, width, bias=False)
    model = nn.Sequential(below, above)
    with torch.no_grad():
        below.weight.zero_()
        above.weight.copy_(scaling * 1e-7 * width * batch / 2 * torch.eye(width))
    plan = ProbePlan(inputs=(InputPlan((8,)),), batch_size=batch, seeds=1, loss="mse")
    session = Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)
    found = session.measure().layers[0].gradient
    assert found.rms == pytest.approx(1e-7 * scaling, rel=0.01)
    assert found.underflow_fraction_fp16 == pytest.approx(lost, abs=0.01)


# 10. Known exactly.


@pytest.mark.parametrize(("factor", "total"), [(0.8, 1.42725e-5), (1.2, 9100.438)])
def test_a_chain_of_one_unit_layers(factor: float, total: float) -> None:
    init = {"name": "constant_", "args": {"val": factor}}
    found = measured(stack(1, 51, init=init, head=False), 1, seeds=1)
    assert found.model.total_gain == pytest.approx(total, rel=1e-5)
    assert found.model.total_gain == pytest.approx(torch.tensor(factor).item() ** 50, rel=1e-12)


@pytest.mark.parametrize(("factor", "total"), [(1.5, 2216.838), (0.5, 1.90735e-6)])
def test_a_stack_of_scaled_identities(factor: float, total: float) -> None:
    model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(20)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(factor * torch.eye(8))
    plan = ProbePlan(inputs=(InputPlan((8,)),), batch_size=16, precision="float64")
    found = Session.open(plan, None, saved(scripted(model))).measure()
    assert found.model.total_gain == pytest.approx(total, rel=1e-6)


class Logistic(nn.Module):
    """x → 3.5x(1 - x), `times` over, behind a layer that leaves x as it is."""

    def __init__(self, times: int, start: float | None = None) -> None:
        super().__init__()
        self.times = times
        self.keep = 1.0 if start is None else 0.0
        self.start = 0.0 if start is None else start
        self.fc = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x * self.keep + self.start)
        for _ in range(self.times):
            x = 3.5 * x * (1 - x)
        return x


def logistic_session(times: int, start: float | None = None, batch_size: int = 8192) -> Session:
    plan = ProbePlan(
        inputs=(InputPlan((1,), distribution="uniform"),),
        batch_size=batch_size,
        seeds=1,
        loss="output_mean_square",
        precision="float64",
    )
    return Session.open(plan, None, saved(scripted(Logistic(times, start))))


def test_the_logistic_map_six_times() -> None:
    session = logistic_session(6)
    places = (torch.arange(200_000, dtype=torch.float64) + 0.5).div(200_000)
    grid = torch.cat([torch.tensor([0.0, 1.0], dtype=torch.float64), places]).unsqueeze(1)
    grid.requires_grad_()
    (slopes,) = torch.autograd.grad(session.recording.module(grid).sum(), grid)
    sizes = slopes.abs().flatten()
    assert sizes[:2].tolist() == pytest.approx([3.5**6] * 2)
    assert sizes.max().item() == pytest.approx(1838.2656, rel=1e-6)
    assert (sizes < 0.1).double().mean().item() == pytest.approx(0.0943, abs=2e-4)
    assert (sizes > 10).double().mean().item() == pytest.approx(0.1648, abs=2e-4)
    quantiles = session.measure().layers[0].gradient.gain_quantiles
    for name, share in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
        assert quantiles[name] == pytest.approx(torch.quantile(sizes, share).item(), rel=0.1)


def test_the_logistic_map_forgets() -> None:
    """Its Lyapunov exponent, from the gain of 40 rounds on the cycle it settles on."""
    x = 0.3
    for _ in range(10_000):
        x = 3.5 * x * (1 - x)
    gain = logistic_session(40, x, 8).measure().layers[0].gradient.gain
    assert gain is not None
    assert math.log(gain) / 40 == pytest.approx(-0.87251, abs=1e-5)


def test_sigmoid_passes_a_quarter_at_most() -> None:
    sigmoid = phi("sigmoid")
    assert max(sigmoid.derivative(x / 100) for x in range(-1000, 1001)) == 0.25
    for layer in measured(stack(64, 8, "Sigmoid"), 64).layers[:-1]:
        parts = layer.gradient.gain_parts
        assert parts is not None
        assert parts["activation"] is not None
        assert 0.2 < parts["activation"] <= 0.25


def test_the_limit_of_xavier() -> None:
    session = opened([linear("fc", 256, {"name": "xavier_uniform_"})], 784, seeds=1)
    weight = session.parameters["fc.weight"]
    limit = 0.0759555
    assert 0.9999 * limit < weight.abs().max().item() <= limit * (1 + 1e-6)
    (parameter,) = session.measure().layers[0].parameters
    assert parameter.rms == pytest.approx(limit / math.sqrt(3), rel=3e-3)


def test_differences_agree_with_autograd_and_their_errors_fall_as_they_should() -> None:
    session = opened(stack(32, 3, "Tanh"), 32, seeds=1, batch_size=16)
    batch = session.batch(0, 0)
    target = batch.target(session.forward(*batch.inputs), session.loss)
    weights = list(session.parameters.values())
    generator = torch.Generator().manual_seed(0)
    direction = [
        torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for weight in weights
    ]

    def loss() -> Tensor:
        return session.loss.compute(session.forward(*batch.inputs), target)

    def moved(step: float) -> float:
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight.add_(way, alpha=step)
            value = loss().item()
        session.reset()
        return value

    gradients = torch.autograd.grad(loss(), weights)
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    steps = [2.0**-power for power in range(8, 14)]
    two_sided = [abs((moved(h) - moved(-h)) / (2 * h) - slope) for h in steps]
    one_sided = [abs((moved(h) - moved(0.0)) / h - slope) for h in steps]
    assert two_sided[-1] < 1e-5 * abs(slope)
    assert order(steps, two_sided) == pytest.approx(2, abs=0.1)
    assert order(steps, one_sided) == pytest.approx(1, abs=0.1)


def order(steps: list[float], errors: list[float]) -> float:
    """Slope of log error over log step, least squares."""
    xs, ys = [math.log(h) for h in steps], [math.log(error) for error in errors]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mx) ** 2 for x in xs
    )


def test_half_of_relu_is_zero_and_nobody_minds() -> None:
    found = relu_stack("he")
    shares = [layer.activation.zero_fraction for layer in found.layers[:-1]]
    assert shares == pytest.approx([0.5] * 20, abs=0.02)
    assert gain_of(hidden(found)) == pytest.approx(1.0, rel=0.015)
    codes = {one.code for one in diagnose(found, plan=ProbePlan()).findings}
    assert not codes & {"dead_units", "saturated_activation", "vanishing_gradient"}


def test_the_slope_of_softplus_is_the_logistic_function() -> None:
    softplus, sigmoid = phi("softplus"), phi("sigmoid")
    x = torch.linspace(-15, 15, 61, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(nn.functional.softplus(x).sum(), x)
    assert slopes.tolist() == pytest.approx(torch.sigmoid(x).tolist(), rel=1e-12)
    assert [softplus.derivative(v) for v in x.tolist()] == pytest.approx(slopes.tolist(), rel=1e-12)
    assert [sigmoid.value(v) for v in x.tolist()] == pytest.approx(slopes.tolist(), rel=1e-12)


def phi(name: str) -> Nonlinearity:
    found = nonlinearity(name)
    assert found is not None
    return found
