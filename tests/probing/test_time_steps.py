"""Gradients per time step against plain autograd on the eager model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.measurements import TimeSteps
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from tests.probing.models import LastStepRNN, mlp, saved, scripted

STEPS = 16
"""As many as samples: sizes alone do not tell which dimension is time."""


class Tagger(nn.Module):
    """An answer at every step, the steps in the first dimension."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(8, 16, batch_first=False)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x.transpose(0, 1))
        logits: Tensor = self.head(out.transpose(0, 1))
        return logits


class LastState(nn.Module):
    """Reads the last state, not the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        logits: Tensor = self.head(state[-1])
        return logits


class BothWays(nn.Module):
    """Reads front to back and back to front, and answers at every step."""

    def __init__(self, kind: str, layers: int, *, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.rnn = getattr(nn, kind)(8, 16, layers, batch_first=batch_first, bidirectional=True)
        self.head = nn.Linear(32, 10)

    def outputs(self, x: Tensor) -> Tensor:
        """(B, T, 32)."""
        out: Tensor
        if self.batch_first:
            out, _ = self.rnn(x)
            return out
        out, _ = self.rnn(x.transpose(0, 1))
        return out.transpose(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.outputs(x))
        return logits


class Cells(nn.Module):
    """A loop of the caller's own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[0], 16)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        logits: Tensor = self.head(state)
        return logits


class StackedCells(Cells):
    """The same, answering at every step."""

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.zeros(x.shape[0], 16)]
        for step in range(x.shape[1]):
            states.append(self.cell(x[:, step], states[-1]))
        logits: Tensor = self.head(torch.stack(states[1:], 1))
        return logits


class UnboundCells(Cells):
    """The same, the steps taken apart at once."""

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[0], 16)
        for step in x.unbind(1):
            state = self.cell(step, state)
        logits: Tensor = self.head(state)
        return logits


def opened(model: nn.Module, steps: int = STEPS, **given: Any) -> Session:
    plan = ProbePlan(
        inputs=(InputPlan((steps, 8)),), **{"batch_size": 16, "batches": 1, "seeds": 1, **given}
    )
    return Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)


def steps_of(session: Session) -> TimeSteps | None:
    return session.measure().layers[0].time_steps


def norms(gradient: Tensor) -> list[float]:
    """Per step of (B, T, features)."""
    return [step.double().norm().item() for step in gradient.unbind(1)]


def signs(like: Tensor) -> Tensor:
    """The ±1 that the probe puts at the last step's outputs."""
    return 2 * torch.randint(0, 2, like.shape, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("form", ["eager", "torchscript"])
def test_steps_equal_plain_autograd(kind: str, form: str) -> None:
    torch.manual_seed(0)
    model = LastStepRNN(kind)
    session = opened(model)
    if form == "torchscript":
        session = Session.open(session.plan, None, saved(scripted(model)))
    found = steps_of(session)
    assert found is not None
    batch = session.batch(0, 0)
    x = batch.inputs[0].clone().requires_grad_()
    out, _ = model.rnn(x)
    last = out[:, -1]
    (memory,) = torch.autograd.grad((last * signs(last)).sum(), x, retain_graph=True)
    logits = model.head(last)
    loss = session.loss.compute(logits, batch.target(logits, session.loss))
    (gradient,) = torch.autograd.grad(loss, x)
    assert found.memory == pytest.approx(norms(memory), rel=1e-4)
    assert found.gradient == pytest.approx(norms(gradient), rel=1e-4)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_memory_fades_where_every_step_answers(kind: str) -> None:
    torch.manual_seed(0)
    found = steps_of(opened(Tagger(kind)))
    assert found is not None
    assert len(found.memory) == STEPS
    first, last = found.memory[0], found.memory[-1]
    assert first is not None
    assert last is not None
    assert first < last / 100.0
    levels = [math.log10(norm) for norm in found.gradient if norm]
    assert len(levels) == STEPS
    assert max(levels) - min(levels) < 1.0


def test_factor_per_step_is_that_of_the_hidden_state() -> None:
    """The factor at the inputs against that of the states, by retain_grad in a loop of one's
    own."""
    torch.manual_seed(0)
    model = LastStepRNN("RNN")
    model.rnn = nn.RNN(8, 16, batch_first=True)
    session = opened(model)
    found = steps_of(session)
    assert found is not None
    states = [torch.zeros(16, 16)]
    weights = dict(model.rnn.named_parameters())
    for step in session.batch(0, 0).inputs[0].unbind(1):
        mixed = step @ weights["weight_ih_l0"].T + states[-1] @ weights["weight_hh_l0"].T
        states.append(torch.tanh(mixed + weights["bias_ih_l0"] + weights["bias_hh_l0"]))
    at_states = torch.autograd.grad((states[-1] * signs(states[-1])).sum(), states[1:-1])
    theirs = (at_states[0].norm() / at_states[-1].norm()).item() ** (1 / (STEPS - 3))
    first, last = found.memory[0], found.memory[-2]
    assert first is not None
    assert last is not None
    assert (first / last) ** (1 / (STEPS - 3)) == pytest.approx(theirs, rel=0.04)


@pytest.mark.parametrize("steps", [2, STEPS])
def test_a_model_that_reads_the_last_state(steps: int) -> None:
    torch.manual_seed(0)
    model = LastState()
    session = opened(model, steps)
    found = steps_of(session)
    assert found is not None
    x = session.batch(0, 0).inputs[0].clone().requires_grad_()
    last = model.rnn(x)[1][-1]
    (memory,) = torch.autograd.grad((last * signs(last)).sum(), x)
    assert found.memory == pytest.approx(norms(memory), rel=1e-4)


@pytest.mark.parametrize("steps", [2, 4, STEPS])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_both_directions_count(kind: str, batch_first: bool, layers: int, steps: int) -> None:
    torch.manual_seed(0)
    model = BothWays(kind, layers, batch_first=batch_first)
    session = opened(model, steps)
    measured = session.measure().layers[0]
    found = measured.time_steps
    assert found is not None
    batch = session.batch(0, 0)
    x = batch.inputs[0].clone().requires_grad_()
    out = model.outputs(x)
    there, back = out[:, -1, :16], out[:, 0, 16:]
    (at_last,) = torch.autograd.grad((there * signs(there)).sum(), x, retain_graph=True)
    (at_first,) = torch.autograd.grad((back * signs(back)).sum(), x, retain_graph=True)
    both = [math.hypot(a, b) for a, b in zip(norms(at_last), norms(at_first)[::-1], strict=True)]
    assert found.memory == pytest.approx(both, rel=1e-4)
    logits = model.head(out)
    loss = session.loss.compute(logits, batch.target(logits, session.loss))
    above, below = torch.autograd.grad(loss, [out, x])
    assert found.gradient == pytest.approx(norms(below), rel=1e-4)
    assert measured.gradient.gain == pytest.approx((below.norm() / above.norm()).item(), rel=1e-4)
    assert set(measured.gradient.gain_quantiles) == {"p05", "p50", "p95"}


@pytest.mark.parametrize("model", [Cells(), StackedCells(), UnboundCells()])
def test_the_gain_of_a_loop_over_a_cell_is_to_all_its_steps(model: Cells) -> None:
    session = opened(model)
    measured = session.measure().layers[0]
    batch = session.batch(0, 0)
    x = batch.inputs[0].clone().requires_grad_()
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = model(x)
    hook.remove()
    loss = session.loss.compute(logits, batch.target(logits, session.loss))
    above, below = torch.autograd.grad(loss, [seen[-1], x])
    assert measured.gradient.gain == pytest.approx((below.norm() / above.norm()).item(), rel=1e-4)


@pytest.mark.parametrize(
    "model", [Cells(), StackedCells(), UnboundCells(), mlp(2, 16, nn.ReLU, inputs=8)]
)
def test_others_have_no_steps(model: nn.Module) -> None:
    measured = opened(model).measure()
    assert all(layer.time_steps is None for layer in measured.layers)


def test_single_steps_have_no_memory() -> None:
    assert steps_of(opened(LastStepRNN("LSTM"), steps=1)) is None
