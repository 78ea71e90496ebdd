"""How far can `gradient_regression` be trusted?  Real probes against real probes.

    python -m benchmarks.regression [--runs 200]

*Unchanged*: networks of the zoo are probed again and again with new seeds, each run the baseline of
the next, as on a branch where nothing happens; every finding is a false alarm. *Dropped*: in a
sequential network one layer after the other passes a tenth of what it passed, in a run with other
seeds than its baseline; every run without a finding that names the layer is a miss. All of it takes
some twenty minutes of one core; docs/ci.md tells what was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from benchmarks.zoo.specs import convolutional, plain, transformers
from benchmarks.zoo.specs.layers import Layer, begun, constant, group, layer, normal, spec
from service.diagnosis.diagnose import diagnose
from service.domain.baseline import Baseline
from service.domain.findings import Diagnosis
from service.domain.measurements import Measurements
from service.domain.model_source import SpecSource, model_source
from service.domain.probe_plan import ProbePlan
from service.domain.request import ModelRequest
from service.probing.session import Session
from service.theory.prediction import with_predictions

CODE = "gradient_regression"
RUNS = 200
DEPTH, WIDTH, CHANNELS, SIDE, CLASSES = 6, 64, 16, 8, 10
"""Of the sequential networks."""

Spec = dict[str, Any]

UNCHANGED: dict[str, Callable[[], Spec]] = {
    "perceptron": plain.perceptron,
    "autoencoder": plain.autoencoder,
    "LSTM": partial(plain.recurrent, "LSTM"),
    "GRU": partial(plain.recurrent, "GRU"),
    "VGG": convolutional.vgg,
    "ResNet": partial(convolutional.resnet, zero=False),
    "GPT": partial(transformers.language, gpt=True),
    "MLP-Mixer": transformers.mixer,
}


@dataclass(frozen=True, slots=True)
class Tally:
    """One network's runs."""

    network: str
    runs: int
    told: int
    """Runs with a finding; of dropped ones: that names the layer."""


def _block(index: int, kind: str) -> list[Layer]:
    """A layer whose scale is the last number of its last initialization, and an activation."""
    gain = 5 / 3 if kind == "tanh perceptron" else 2**0.5
    if "perceptron" in kind:
        made = layer("Linear", "fc", out_features=WIDTH)
        scaled = begun(made, {"weight": normal(gain / WIDTH**0.5), "bias": constant(0.0)})
        return [group(f"block{index}", [scaled, layer("Tanh" if "tanh" in kind else "ReLU")])]
    made = layer("Conv2d", "conv", out_channels=CHANNELS, kernel_size=3, padding=1)
    std = gain / (9 * (CHANNELS if index else 3)) ** 0.5
    scaled = begun(made, {"weight": normal(std), "bias": constant(0.0)})
    if kind == "convolutions":
        return [group(f"block{index}", [scaled, layer("ReLU")])]
    # The scale of a weight does not pass a normalization: its own does.
    scale = begun(layer("BatchNorm2d"), {"weight": constant(1.0)})
    return [group(f"block{index}", [scaled, scale, layer("ReLU")])]


SEQUENTIAL = ("ReLU perceptron", "tanh perceptron", "convolutions", "convolutions, BatchNorm")


def sequential(kind: str, dropped: int | None = None) -> Spec:
    """Its layer `dropped` passes a tenth: the scale of that block is divided by ten."""
    blocks = [deepcopy(one) for index in range(DEPTH) for one in _block(index, kind)]
    if dropped is not None:
        initialized = [one for one in blocks[dropped]["layers"] if "init" in one]
        args = initialized[-1]["init"]["weight"]["args"]
        (name,) = args
        args[name] /= 10
    head = [layer("Linear", "head", out_features=CLASSES)]
    if "perceptron" in kind:
        return spec([WIDTH], [*blocks, *head])
    return spec([3, SIDE, SIDE], [*blocks, layer("AdaptiveAvgPool2d", output_size=1),
                                  layer("Flatten"), *head])  # fmt: skip


def probed(model: Spec, seed: int) -> Measurements:
    """As a request that says nothing of the probe but its seed."""
    source = model_source(ModelRequest("spec", spec=model), "spec")
    assert isinstance(source, SpecSource)
    plan = ProbePlan(seed=seed, trial_steps=0, budget_seconds=600)
    return with_predictions(Session.open(plan, source.architecture, None).measure())


def compared(before: Measurements, after: Measurements) -> tuple[str, ...]:
    """Layers that `gradient_regression` names."""
    diagnosis = _diagnosis(after, _baseline(before))
    return tuple(
        name for one in diagnosis.findings if one.code == CODE for name in one.layers
    )  # fmt: skip


def _baseline(before: Measurements) -> Baseline:
    codes = frozenset(one.code for one in _diagnosis(before, None).findings)
    return Baseline("before", before.layers, codes, len(before.seeds), before.model.loss)


def _diagnosis(measured: Measurements, baseline: Baseline | None) -> Diagnosis:
    return diagnose(measured, plan=ProbePlan(), baseline=baseline)


def unchanged(network: str, runs: int) -> Tally:
    """Each run against the one before it."""
    model = UNCHANGED[network]()
    measured = (probed(model, seed) for seed in range(runs + 1))
    told = sum(bool(compared(before, after)) for before, after in pairwise(measured))
    return Tally(network, runs, told)


def dropped(kind: str, runs: int) -> Tally:
    """Every layer in turn against the network as it was, all with seeds of their own."""
    told = 0
    for run in range(runs):
        at = run % DEPTH
        before = probed(sequential(kind), 2 * run)
        after = probed(sequential(kind, at), 2 * run + 1)
        told += any(name.startswith(f"block{at}.") for name in compared(before, after))
    return Tally(kind, runs, told)


def tallies(runs: int) -> Iterator[tuple[str, Tally]]:
    """All networks, one after the other."""
    for network in UNCHANGED:
        yield "unchanged", unchanged(network, runs)
    for kind in SEQUENTIAL:
        yield "dropped", dropped(kind, runs)


def main() -> None:
    """Print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    torch.set_num_threads(1)
    for what, one in tallies(parser.parse_args().runs):
        print(f"{what:10} {one.network:24} {one.told:4} of {one.runs}", flush=True)


if __name__ == "__main__":
    main()
