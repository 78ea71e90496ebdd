"""What else can be asked whether a model trains: a plain training, and published sets of rules.

The rules are restated in a few lines each from their papers, documentation and published code, as
far as they can be applied to one batch at initialization; rules that need a training curve (loss
not decreasing, oscillating, overfitting) are left out. Each says unhealthy or healthy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.score import oracle

CLASSES = 10
BATCH = 64
STEPS = 200
RATES = (("sgd", 0.03), ("sgd", 0.1), ("sgd", 0.003), ("adam", 1e-3))
"""Three rates of SGD with momentum .9, and Adam."""
TRAINED, UNTRAINED = 0.9, 0.5
"""Accuracy from which the plain training says that a model trains, and under which that not."""
LAST = 10
"""Steps over which the accuracy is averaged."""


def plain_training(case: Mapping[str, Any]) -> str:
    """Train 200 steps at each rate and look: ten Gaussian classes of unit spread at the input."""
    shape = case["spec"]["input"]["shape"]
    best = {"sgd": 0.0, "adam": 0.0}
    for name, lr in RATES:
        torch.manual_seed(0)
        net = oracle().Net(case["spec"]["layers"])
        best[name] = max(best[name], _accuracy(net, shape, name, lr))
    if all(accuracy >= TRAINED for accuracy in best.values()):
        return "healthy"
    return "unhealthy" if all(a < UNTRAINED for a in best.values()) else "at_risk"


def _accuracy(net: nn.Module, shape: list[int], name: str, lr: float) -> float:
    """Mean of the last steps, each before it is learned from; 0 when the loss blew up."""
    generator = torch.Generator().manual_seed(1)
    means = torch.randn((CLASSES, *shape), generator=generator)
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(net.parameters(), lr, momentum=0.9)
        if name == "sgd"
        else torch.optim.Adam(net.parameters(), lr)
    )
    right: list[float] = []
    for _ in range(STEPS):
        label = torch.randint(0, CLASSES, (BATCH,), generator=generator)
        noise = torch.randn((BATCH, *shape), generator=generator)
        output = net(means[label] + noise)
        loss = functional.cross_entropy(output, label)
        if not torch.isfinite(loss):
            return 0.0
        right.append(output.argmax(1).eq(label).float().mean().item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return sum(right[-LAST:]) / LAST


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One batch of digits through a fresh network, and back."""

    loss: float
    kernels: tuple[tuple[Tensor, Tensor], ...]
    """(weight, gradient) of every matrix or kernel, first layer first."""
    activations: tuple[tuple[str, Tensor, Tensor], ...]
    """(class, input, output) of every activation module, in order."""


ACTIVATIONS = frozenset(nn.modules.activation.__all__) - {"MultiheadAttention"}


def snapshot(case: Mapping[str, Any]) -> Snapshot:
    """Build the case's network as the oracle does and run one batch."""
    torch.manual_seed(0)
    net = oracle().Net(case["spec"]["layers"])
    x, y = oracle().data(case["data"])
    seen: list[tuple[str, Tensor, Tensor]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((type(module).__name__, inputs[0].detach(), output.detach()))

    for module in net.modules():
        if type(module).__name__ in ACTIVATIONS:
            module.register_forward_hook(look)
    loss = functional.cross_entropy(net(x[:BATCH]), y[:BATCH])
    kernels = [p for p in net.parameters() if p.dim() >= 2]
    gradients = torch.autograd.grad(loss, kernels, allow_unused=True, materialize_grads=True)
    pairs = tuple((k.detach(), g) for k, g in zip(kernels, gradients, strict=True))
    return Snapshot(loss.item(), pairs, tuple(seen))


def _broken(seen: Snapshot) -> bool:
    tensors = [g for _, g in seen.kernels] + [out for _, _, out in seen.activations]
    return not math.isfinite(seen.loss) or any(not t.isfinite().all() for t in tensors)


def _vanished(seen: Snapshot) -> bool:
    """Mean |gradient| of any weight under 1e-7."""
    return any(g.abs().mean() < 1e-7 for _, g in seen.kernels)


def _share(where: Tensor) -> float:
    return where.float().mean().item()


def sagemaker(seen: Snapshot) -> bool:
    """Amazon SageMaker Debugger's built-in rules, default parameters: VanishingGradient (mean
    |g| < 1e-7), ExplodingTensor, DeadRelu (over 50 % of a layer's units never active),
    SaturatedActivation (over 50 % of inputs beyond ±9.4999 for tanh, -23 or 16.99999 for
    sigmoid). PoorWeightInitialization is left out: at its default, a gradient whose 5 … 95 %
    range is under .001, it fires on nearly every network."""
    for kind, given, out in seen.activations:
        low, high = {"Tanh": (-9.4999, 9.4999), "Sigmoid": (-23.0, 16.99999)}.get(
            kind, (-math.inf, math.inf)
        )
        if _share((given < low) | (given > high)) > 0.5:
            return True
        if kind == "ReLU" and _share((out == 0).all(0)) > 0.5:
            return True
    return _broken(seen) or _vanished(seen)


def autotrainer(seen: Snapshot) -> bool:
    """AutoTrainer (Zhang et al., ICSE 2021), default parameters: first over last weight-gradient
    norm under 1e-3 with the first under 1e-4 (vanishing) or over 70 (exploding); 70 % of all
    gradient elements zero (dying ReLU); NaN."""
    first, last = seen.kernels[0][1].norm().item(), seen.kernels[-1][1].norm().item()
    ratio = first / last if last else math.inf
    zeros = sum(int((g == 0).sum()) for _, g in seen.kernels)
    dying = zeros >= 0.7 * sum(g.numel() for _, g in seen.kernels)
    return _broken(seen) or (ratio < 1e-3 and first < 1e-4) or ratio > 70 or dying


def deepdiagnosis(seen: Snapshot) -> bool:
    """DeepDiagnosis (Wardat et al., ICSE 2022), thresholds of its published callback: vanishing
    (mean |g| < 1e-7), numerical errors, dead (70 % of a ReLU layer's outputs not above 0),
    saturated (half of a tanh's or sigmoid's values beyond ±5)."""
    for kind, given, out in seen.activations:
        if kind == "ReLU" and _share(out <= 0) >= 0.7:
            return True
        if kind in ("Tanh", "Sigmoid") and _share(given.abs() >= 5) > 0.5:
            return True
    return _broken(seen) or _vanished(seen)


F_CRITICAL = 2.70554
"""Of TheDeepChecker's variance test, at its α = .1."""


def thedeepchecker(seen: Snapshot) -> bool:
    """TheDeepChecker (Ben Braiek & Khomh, TOSEM 2023; UMLAUT's static checks are a part of it):
    constant weights; weight variance off what the activation asks for (He for ReLU, Glorot for
    tanh, LeCun for sigmoid) by a factor of 2.7; over half of a layer's units dead (95th percentile
    under 1e-5); the loss at start far from log C."""
    if _broken(seen) or any(w.var() < 1e-8 for w, _ in seen.kernels):
        return True
    kind = seen.activations[0][0] if seen.activations else ""
    for weight, _ in seen.kernels[:-1]:
        fan_out, fan_in = weight.shape[0], weight[0].numel()
        wanted = {"ReLU": 2 / fan_in, "Tanh": 2 / (fan_in + fan_out), "Sigmoid": 1 / fan_in}
        ratio = weight.var().item() / wanted.get(kind, weight.var().item())
        if max(ratio, 1 / ratio) > F_CRITICAL:
            return True
    dead = any(
        _share(torch.quantile(out.flatten(1), 0.95, dim=0) < 1e-5) > 0.5
        for name, _, out in seen.activations
        if name == "ReLU"
    )
    chance = math.log(CLASSES)
    return dead or not 0.5 * chance < seen.loss < 2.0 * chance


def last_over_first(seen: Snapshot) -> bool:
    """The rule of thumb: the last weight gradient a hundred times the first."""
    first, last = seen.kernels[0][1].norm().item(), seen.kernels[-1][1].norm().item()
    return _broken(seen) or last > 100 * first or not last


RULES: Mapping[str, Callable[[Snapshot], bool]] = MappingProxyType(
    {
        "SageMaker Debugger": sagemaker,
        "AutoTrainer": autotrainer,
        "DeepDiagnosis": deepdiagnosis,
        "TheDeepChecker": thedeepchecker,
        "last/first weight gradient > 100": last_over_first,
    }
)
"""True: something is wrong."""
