"""What is not measured or drawn a second time is, bit for bit, what it would have been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from service.domain.architecture import resolve
from service.domain.measurements import Measurements
from service.domain.probe_plan import GLANCE, Look, OptimizerPlan, ProbePlan
from service.probing.probe import Seed
from service.probing.session import Session
from service.probing.side_by_side import SideBySide


def linear(name: str, units: int) -> dict[str, Any]:
    return {"name": name, "type": "Linear", "args": {"out_features": units}}


NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {
        "input": {"shape": [12]},
        "layers": [linear("a", 16), {"type": "Sigmoid"}, linear("b", 16), {"type": "ReLU"},
                   linear("head", 5)],
    },
    "dropout and batch normalization": {
        "input": {"shape": [1, 8, 8]},
        "layers": [
            {"name": "conv", "type": "Conv2d", "args": {"out_channels": 4, "kernel_size": 3}},
            {"type": "BatchNorm2d"}, {"type": "ReLU"}, {"type": "Dropout", "args": {"p": 0.3}},
            {"type": "Flatten"}, linear("head", 5),
        ],
    },
    "recurrent": {
        "input": {"shape": [6, 4]},
        "layers": [{"name": "rnn", "type": "GRU", "args": {"hidden_size": 8}},
                   {"name": "last", "type": "LastStep"}, linear("head", 5)],
    },
    "vanishing": {
        "input": {"shape": [8]},
        "layers": [layer for n in range(12) for layer in (
            {**linear(f"fc{n}", 8), "init": {"weight": {"name": "normal_", "args": {"std": 1e-7}}}},
            {"name": f"act{n}", "type": "Tanh"})],
    },
}  # fmt: skip
PLAN = ProbePlan(batch_size=8, batches=4, seeds=3, trial_steps=12, budget_seconds=600.0)
PLANS = {
    "usual": PLAN,
    "a named optimizer": ProbePlan(
        batch_size=8, batches=3, seeds=1, optimizer=OptimizerPlan("sgd", 0.1), budget_seconds=600.0
    ),
    "float16 beside float32": ProbePlan(
        batch_size=8, precision="float16", trial_steps=0, budget_seconds=600.0
    ),
    "pure bfloat16": ProbePlan(
        batch_size=8, precision="pure_bfloat16", trial_steps=0, budget_seconds=600.0
    ),
}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for every pass that is measured."""
    done: list[bool] = []
    true_run = Seed.run

    def run(self: Seed, *given: Any) -> None:
        done.append(True)
        true_run(self, *given)

    true_together = SideBySide.run

    def together(self: SideBySide, stacks: Any, batches: Any, *given: Any, **named: Any) -> Any:
        done.extend(True for _ in batches)
        return true_together(self, stacks, batches, *given, **named)

    monkeypatch.setattr(Seed, "run", run)
    monkeypatch.setattr(SideBySide, "run", together)
    return done


def opened(network: str, plan: ProbePlan = PLAN) -> Session:
    return Session.open(plan, resolve(NETWORKS[network]), None)


def text(measured: Measurements) -> str:
    """Every digit, NaN included."""
    return repr(measured)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_glance_after_the_whole_probe_is_the_same_as_one_by_itself(
    network: str, plan: str, passes: list[bool]
) -> None:
    alone = opened(network, PLANS[plan])
    by_itself = alone.measure(look=GLANCE)
    session = opened(network, PLANS[plan])
    whole = session.measure()
    passes.clear()
    assert text(session.measure(look=GLANCE)) == text(by_itself)
    if plan in {"usual", "a named optimizer"}:
        assert passes == []
    assert text(session.measure()) == text(whole)


@pytest.mark.parametrize(
    "ask",
    [{"after_steps": 2}, {"changes": ({"kind": "loss_scaling", "loss_scale": 1024.0},)}],
    ids=["after steps", "with a loss scale"],
)
def test_no_other_look_is_answered_from_memory(ask: dict[str, Any], passes: list[bool]) -> None:
    alone, session = opened("plain"), opened("plain")
    alone.measure(look=Look(1, 1))  # with the gradient check, which is done once
    session.measure()
    session.measure(**ask)
    passes.clear()
    told = session.measure(look=GLANCE, **ask)
    assert len(passes) == GLANCE.passes
    assert text(told) == text(alone.measure(look=GLANCE, **ask))


REDRAWN: dict[str, Mapping[str, Any]] = {
    "initializer": {
        "kind": "initializer",
        "parameters": [{"parameter": "a.weight", "initializer": "orthogonal_"}],
    },
    "activation": {
        "kind": "activation",
        "layers": ["a"],
        "activation": "ReLU",
        "parameters": [{"parameter": "a.weight", "initializer": "kaiming_normal_"}],
    },
}


@pytest.mark.parametrize("kind", REDRAWN)
def test_the_first_seed_of_a_redrawn_model_is_drawn_once(kind: str) -> None:
    session = opened("plain").changed((REDRAWN[kind],))
    drawn = []
    fresh = session.model.fresh
    assert fresh is not None

    def counting() -> dict[str, torch.Tensor]:
        drawn.append(True)
        return fresh()

    object.__setattr__(session.model, "fresh", counting)
    session.reset()
    first = {name: value.detach().clone() for name, value in session.parameters.items()}
    torch.manual_seed(PLAN.seed)
    assert all(torch.equal(first[name], value) for name, value in fresh().items())
    for number in range(3):
        session.weights.draw(number)
    session.trial()
    session.reset()
    assert all(torch.equal(first[name], value) for name, value in session.parameters.items())
    assert len(drawn) == 3  # once each
    assert session.weights.redrawn is not None
    assert set(session.weights.redrawn) == {"a.weight"}


FIRST = {"plain": "a", "dropout and batch normalization": "head"}
VALUES: dict[str, dict[str, Any]] = {
    "an initialization": {
        "kind": "initializer",
        "parameters": [{"parameter": "head.weight", "initializer": "orthogonal_"}],
    },
    "pre-training": {"kind": "pretraining", "steps": 2, "lr": 0.01},
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("change", VALUES)
@pytest.mark.parametrize("network", FIRST)
def test_a_change_of_initial_values_needs_no_recording_of_its_own(
    network: str, change: str, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ({"layers": [FIRST[network]], **VALUES[change]},)
    session, alone = opened(network, PLANS[plan]), opened(network, PLANS[plan])
    assert session.changed(changes).recording is session.recording
    assert session.changed(changes)._seeds.taps is session._seeds.taps
    true_init = Session.__init__

    def recording(self: Session, *given: Any, alike: Session | None = None, **more: Any) -> None:
        true_init(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "__init__", recording)
        assert alone.changed(changes).recording is not alone.recording
    # Others in between: what they leave behind must not show.
    session.measure()
    session.measure(changes, look=GLANCE)
    session.measure(after_steps=1)
    assert text(session.measure(changes)) == text(alone.measure(changes))
    assert text(session.measure()) == text(alone.measure())


def test_a_change_of_operations_is_recorded() -> None:
    session = opened("plain")
    changes = ({"kind": "activation", "layers": ["a"], "activation": "Tanh"},)
    assert session.changed(changes).recording is not session.recording
