"""Passes side by side show what they show one after the other, each its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from service.domain.architecture import resolve
from service.domain.measurements import LayerMeasurements, Measurements
from service.domain.probe_plan import GLANCE, InputPlan, OptimizerPlan, ProbePlan
from service.probing import seeds
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from service.probing.side_by_side import SideBySide, seeds_together
from service.probing.stacking import CannotStack, stacked
from service.probing.trace import record
from tests.probing import models

PLAN = ProbePlan(batch_size=8, batches=3, seeds=3, trial_steps=0, budget_seconds=600.0)


def linear(units: int, **init: Any) -> dict[str, Any]:
    return {"type": "Linear", "args": {"out_features": units}, "init": init}


def unbiased(units: int) -> dict[str, Any]:
    """The gradient of a bias before a normalization is but rounding."""
    return {"type": "Linear", "args": {"out_features": units, "bias": False}}


def spec(shape: list[int], *layers: dict[str, Any]) -> dict[str, Any]:
    return {"input": {"shape": shape}, "layers": list(layers)}


HEAD = linear(5)
TINY = {"weight": {"name": "normal_", "args": {"std": 1e-7}}}
HUGE = {"weight": {"name": "normal_", "args": {"std": 1e7}}}
CONSTANT = {"weight": {"name": "constant_", "args": {"val": 0.1}}}
SPECS = {
    "plain": spec([12], linear(16), {"type": "Sigmoid"}, linear(16), {"type": "ReLU"}, HEAD),
    "every activation": spec([12], *(part for name in (
        "Tanh", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "SELU", "Mish", "Hardswish",
        "Softsign", "ReLU6", "LogSigmoid", "Tanhshrink", "PReLU",
    ) for part in (linear(8), {"type": name})), HEAD),
    "layer normalization": spec([12], linear(16), {"type": "LayerNorm", "args":
        {"normalized_shape": [16]}}, {"type": "Tanh"}, HEAD),
    "batch normalization": spec([12], unbiased(16), {"type": "BatchNorm1d"}, {"type": "ReLU"},
        linear(16), {"type": "Tanh"}, {"type": "BatchNorm1d", "args":
        {"affine": False, "track_running_stats": False}}, HEAD),
    "of images": spec([3, 6, 6], {"type": "BatchNorm2d"}, {"type": "ReLU"}, {"type": "AvgPool2d",
        "args": {"kernel_size": 2}}, {"type": "Flatten"}, unbiased(8), {"type": "BatchNorm1d"},
        {"type": "ReLU"}, HEAD),
    "RMS normalization": spec([12], linear(16), {"type": "RMSNorm"}, {"type": "GELU"}, HEAD),
    "in place": spec([12], linear(16), {"type": "ReLU", "args": {"inplace": True}},
        linear(16), {"type": "LeakyReLU", "args": {"inplace": True}}, HEAD),
    "over a sequence": spec([6, 4], linear(8), {"type": "GELU"}, linear(8), {"type": "Flatten"},
                            HEAD),
    "probabilities": spec([12], linear(8), {"type": "ReLU"}, HEAD, {"type": "Softmax",
                          "args": {"dim": 1}}),
    "one number": spec([12], linear(8), {"type": "ReLU"}, linear(1)),
    "vanishing": spec([8], *(part for _ in range(12) for part in (linear(8, **TINY),
                      {"type": "Tanh"})), HEAD),
    "overflowing": spec([8], *(part for _ in range(9) for part in (linear(8, **HUGE),
                        {"type": "ReLU"})), HEAD),
    "alike": spec([8], linear(8, **CONSTANT), {"type": "ReLU"}, linear(8, **CONSTANT), HEAD),
    "residual": spec([12], {"name": "first", **linear(12)}, linear(12), {"name": "act",
                     "type": "Tanh"},
                     {"type": "Add", "inputs": ["act", "first"]}, {"type": "ReLU"}, HEAD),
    "pooling": spec([1, 8, 8], {"type": "MaxPool2d", "args": {"kernel_size": 2}},
                    {"type": "AvgPool2d", "args": {"kernel_size": 2}}, {"type": "Flatten"},
                    linear(6), {"type": "ReLU"}, HEAD),
}  # fmt: skip


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of every run side by side."""
    done: list[int] = []
    true_run = SideBySide.run

    def run(self: SideBySide, stacks: Any, *given: Any, **named: Any) -> Any:
        done.append(stacks.seeds)
        return true_run(self, stacks, *given, **named)

    monkeypatch.setattr(SideBySide, "run", run)
    return done


def one_by_one(session: Session, **ask: Any) -> Measurements:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "seeds_together", lambda *_: 0)
        return session.measure(**ask)


NEAR = 2e-5
"""Relative, what rounding to float32 may add up to."""
SHARES = ("correlation", "unit_spread", "fraction")
"""What is told on a scale of its own, 1, however near 0 it comes by cancelling."""


def assert_same(found: Any, expected: Any, place: str = "", scale: float = 0.0) -> None:
    """Numbers within rounding; everything else equal. `scale`: of a layer's output, which its mean
    may be much smaller than."""
    if isinstance(expected, LayerMeasurements):
        scale = expected.activation.rms or 0.0
    if place.endswith("gradient_check.relative_error"):
        return  # between two ways of reckoning a gradient: rounding itself
    if dataclasses.is_dataclass(expected) and not isinstance(expected, type):
        assert type(found) is type(expected), place
        for own in dataclasses.fields(expected):
            name = own.name
            assert_same(getattr(found, name), getattr(expected, name), f"{place}.{name}", scale)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for name in expected:
            assert_same(found[name], expected[name], f"{place}[{name}]", scale)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, one in enumerate(expected):
            assert_same(found[index], one, f"{place}[{index}]", scale)
    elif place.endswith("snr") and expected:
        # The noise is what is left when nearly equal squares cancel.
        assert 1.0 / found**2 == pytest.approx(1.0 / expected**2, rel=NEAR, abs=NEAR), place
    elif isinstance(expected, float) and math.isfinite(expected):
        of = 1.0 if any(share in place for share in SHARES) else scale if "mean" in place else 0.0
        assert found == pytest.approx(expected, rel=NEAR, abs=NEAR * of), place
    else:
        assert repr(found) == repr(expected), place


def opened(which: dict[str, Any], plan: ProbePlan = PLAN) -> Session:
    return Session.open(plan, resolve(which), None)


@pytest.mark.parametrize("name", SPECS)
def test_side_by_side_is_one_by_one(name: str, runs: list[int]) -> None:
    expected = one_by_one(opened(SPECS[name]))
    assert runs == []
    assert_same(opened(SPECS[name]).measure(), expected)
    assert runs == [3]


@pytest.mark.parametrize(
    "plan",
    [
        dataclasses.replace(PLAN, batches=1),
        dataclasses.replace(PLAN, seeds=1, optimizer=OptimizerPlan("adam", 1e-3, clip_norm=1.0)),
        dataclasses.replace(PLAN, precision="float64"),
        dataclasses.replace(PLAN, batch_size=1),
        dataclasses.replace(PLAN, mode="eval"),
    ],
    ids=["one batch", "an optimizer", "float64", "one sample", "eval"],
)
def test_any_plan(plan: ProbePlan, runs: list[int]) -> None:
    assert_same(opened(SPECS["plain"], plan).measure(), one_by_one(opened(SPECS["plain"], plan)))
    assert runs == [plan.seeds]


def test_batch_normalization_by_what_came_in_before(runs: list[int]) -> None:
    """In eval mode, where the statistics are not those of a new model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    model(3.0 * torch.randn(64, 6) + 1.0)

    def session() -> Session:
        plan = dataclasses.replace(PLAN, mode="eval", inputs=(InputPlan((6,)),))
        return Session(loaded("torchscript", model, mode="eval", dtype=torch.float32), plan)

    assert_same(session().measure(), one_by_one(session()))
    assert runs == [3]


def test_what_is_counted_stays_as_it_was(runs: list[int]) -> None:
    session = opened(SPECS["batch normalization"])
    kept = {name: value.clone() for name, value in session.buffers.items()}
    session.measure()
    assert runs == [3]
    assert {name for name in kept if name.endswith("num_batches_tracked")}
    assert all(torch.equal(session.buffers[name], value) for name, value in kept.items())


class Writes(nn.Module):
    """Into what it has made, as it is told."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 4), 0.5))
        self._how = how

    def forward(self, x: Tensor) -> Tensor:
        return self._how(torch.mm(x, self.weight))


def before_and_after(x: Tensor) -> Tensor:
    early = torch.tanh(x)
    x.mul_(2.0)
    return early + x


WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "the answer": lambda x: x.relu_(),
    "read before and after": before_and_after,
    "with a number": lambda x: x.add_(1.0).tanh(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_writing_is_making_anew(name: str) -> None:
    model = Writes(WRITTEN[name])
    parameters = dict(model.named_parameters())
    given = torch.randn(3, 2, 4)
    graph = record(model, parameters, {}, (given[0],)).module.graph
    found = fx.GraphModule(nn.Module(), stacked(graph, list(parameters)))(
        model.weight.repeat(3, 1, 1), given
    )
    assert torch.equal(found, torch.stack([model(one) for one in given]))


def through_a_view(x: Tensor) -> Tensor:
    shown = x.view(-1)
    x.relu_()
    return shown.sum()


def twice(x: Tensor) -> Tensor:
    y = x.relu_()
    x.mul_(2.0)
    return y.sum()


ALIASED: dict[str, Callable[[Tensor], Tensor]] = {
    "into a view": lambda x: x.t().relu_(),
    "seen through a view": through_a_view,
    "twice": twice,
    "not by element": lambda x: x.index_fill_(0, torch.tensor([0]), 1.0),
}


@pytest.mark.parametrize("name", ALIASED)
def test_writing_that_others_may_see_is_refused(name: str) -> None:
    model = Writes(ALIASED[name])
    parameters = dict(model.named_parameters())
    recording = record(model, parameters, {}, (torch.randn(2, 4),))
    with pytest.raises(CannotStack):
        stacked(recording.module.graph, list(parameters))


ASKED: dict[str, dict[str, Any]] = {
    "after steps": {"after_steps": 2},
    "a glance": {"look": GLANCE},
    "with a loss scale": {"changes": ({"kind": "loss_scaling", "loss_scale": 1024.0},)},
    "drawn anew": {
        "changes": (
            {
                "kind": "initializer",
                "parameters": [{"parameter": "first.weight", "initializer": "orthogonal_"}],
            },
        )
    },
}


@pytest.mark.parametrize("name", ASKED)
def test_whatever_is_asked(name: str, runs: list[int]) -> None:
    which = spec([12], {"name": "first", **linear(16)}, {"type": "Tanh"}, HEAD)
    assert_same(opened(which).measure(**ASKED[name]), one_by_one(opened(which), **ASKED[name]))
    assert len(runs) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    activation=st.sampled_from(["ReLU", "Tanh", "Sigmoid", "GELU"]),
    batch_size=st.integers(1, 6),
    batches=st.integers(1, 3),
    number=st.integers(1, 4),
    std=st.sampled_from([1e-20, 1e-4, 1.0, 1e4, 1e20]),
)
def test_any_perceptron(
    widths: list[int], activation: str, batch_size: int, batches: int, number: int, std: float
) -> None:
    layers: list[dict[str, Any]] = []
    for width in widths:
        init = {"weight": {"name": "normal_", "args": {"std": std}}}
        layers += [linear(width, **init), {"type": activation}]
    # In float64, where what cancels in a layer of one unit is still right to what is asked.
    plan = dataclasses.replace(
        PLAN, batch_size=batch_size, batches=batches, seeds=number, precision="float64"
    )
    which = spec([5], *layers, HEAD)
    assert_same(opened(which, plan).measure(), one_by_one(opened(which, plan)))


def test_a_file_s_parameters_are_the_same_for_every_seed(runs: list[int]) -> None:
    torch.manual_seed(0)
    plan = dataclasses.replace(PLAN, inputs=(InputPlan((64,)),))

    def session() -> Session:
        torch.manual_seed(0)
        model = models.mlp(3, 16, nn.Tanh)
        return Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)

    before = session()
    kept = {name: value.detach().clone() for name, value in before.parameters.items()}
    assert_same(before.measure(), one_by_one(session()))
    assert runs == [3]
    assert all(torch.equal(before.parameters[name], value) for name, value in kept.items())


ALONE = {
    "dropout": spec([12], linear(16), {"type": "Dropout", "args": {"p": 0.3}}, HEAD),
    "recurrent": spec([6, 4], {"type": "GRU", "args": {"hidden_size": 8}}, {"type": "LastStep"},
                      HEAD),
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_what_draws_or_is_looked_at_by_step_runs_alone(name: str, runs: list[int]) -> None:
    opened(ALONE[name]).measure()
    assert runs == []


def test_only_what_fits_runs_side_by_side() -> None:
    session = opened(SPECS["plain"])

    def together(plan: ProbePlan, batch_size: int = 8, fits: int | None = None) -> int:
        return seeds_together(session.recording, plan, batch_size, fits)

    assert together(PLAN) == 3
    found = [together(PLAN, fits=8 * passes) for passes in range(60)]
    assert found == sorted(found)
    assert found[0] == found[3] == 0, "every pass has parameters of its own besides"
    assert set(found) == {0, 1, 2, 3}
    assert together(dataclasses.replace(PLAN, seeds=1, batches=1)) == 0


def test_wide_layers_run_alone() -> None:
    wide = dataclasses.replace(PLAN, batch_size=64)
    for units, expected in ((64, 3), (2048, 0)):
        session = opened(spec([units], linear(units), HEAD), wide)
        assert seeds_together(session.recording, wide, 64, None) == expected


def test_groups_of_seeds_show_the_same(monkeypatch: pytest.MonkeyPatch, runs: list[int]) -> None:
    whole = opened(SPECS["plain"]).measure()
    monkeypatch.setattr(seeds, "seeds_together", lambda *_: 2)
    assert_same(opened(SPECS["plain"]).measure(), whole)
    assert runs == [3, 2, 1]


def test_an_operation_that_is_not_known_is_refused() -> None:
    model = nn.Embedding(7, 4)
    parameters = dict(model.named_parameters())
    recording = record(model, parameters, {}, (torch.zeros(3, 2, dtype=torch.long),))
    with pytest.raises(CannotStack, match="embedding"):
        stacked(recording.module.graph, list(parameters))
