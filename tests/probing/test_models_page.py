"""Every row of docs/models.md: what it says of a model, in each form that it can be exported in."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from service.domain.errors import Untraceable
from service.domain.measurements import Measurements
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.session import Session
from tests.probing import odd_models

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
NUMBERS, TOKENS = InputPlan((8,)), InputPlan((5,), "int64", high=20)
FORMS = ("traced", "scripted", "exported")
NOT_SCRIPTED, NOT_EXPORTED = ("traced", "exported"), ("traced", "scripted")

Made = Callable[[], nn.Module]
Check = Callable[[Session, Measurements], bool]


def layers(*names: str) -> Check:
    return lambda _, measured: tuple(layer.name for layer in measured.layers) == names


def notes(text: str) -> Check:
    return lambda _, measured: any(text in note for note in measured.notes)


def shape(*sizes: int) -> Check:
    return lambda session, _: tuple(session.output_shape[1:]) == sizes


def kept(name: str) -> Check:
    """A buffer that a pass changes is as before."""
    return lambda session, _: torch.equal(session.buffers[name], session.weights.start[name])


def complex_too(session: Session, measured: Measurements) -> bool:
    turn = [p for layer in measured.layers for p in layer.parameters if p.name == "turn"]
    return session.parameters["turn"].is_complex() and bool(turn[0].grad_norm)


def dense(session: Session, _: Measurements) -> bool:
    batch = session.batch(0, 0)
    table = session.parameters["embedding.weight"]
    output = session.forward(*batch.inputs)
    (gradient,) = torch.autograd.grad(output.square().mean(), [table])
    return not gradient.is_sparse and bool(gradient.abs().sum())


def no_gradient(_: Session, measured: Measurements) -> bool:
    own = [p for layer in measured.layers for p in layer.parameters if p.name.startswith("fc.")]
    return all(not p.connected for p in own)


ROWS: dict[str, tuple[Made, InputPlan, tuple[str, ...], Check]] = {
    "loops": (odd_models.Loops, NUMBERS, FORMS, layers("fc", "fc#2", "fc#3", "head")),
    "operations in place": (odd_models.InPlace, NUMBERS, FORMS, layers("fc", "head")),
    "buffers that change": (odd_models.Counts, NUMBERS, FORMS, kept("seen")),
    "tied weights": (odd_models.Tied, TOKENS, FORMS, layers("embedding", "embedding#2")),
    "complex numbers on the way": (odd_models.Spectrum, NUMBERS, FORMS, layers("fc", "head")),
    "complex weights": (odd_models.ComplexWeights, NUMBERS, FORMS, complex_too),
    "sparse gradients": (odd_models.Sparse, TOKENS, FORMS, dense),
    "checkpointing": (odd_models.Checkpoints, NUMBERS, NOT_SCRIPTED, layers("fc", "head")),
    "frozen weights": (odd_models.Frozen, NUMBERS, FORMS, notes("frozen: 2 parameters")),
    "weights kept as integers": (odd_models.IntegerWeights, NUMBERS, FORMS, layers("fc", "head")),
    "expanded weights": (odd_models.Expanded, NUMBERS, FORMS, notes("expanded: the elements of")),
    "parts without gradients": (
        odd_models.NoGradients, NUMBERS, ("scripted", "exported"), no_gradient
    ),
    "an answer by name": (odd_models.Mapped, NUMBERS, FORMS, shape(3)),
}  # fmt: skip
"""What the page calls it; how it is built, what it takes, in which forms it can be exported."""


@pytest.mark.parametrize(
    ("row", "form"), [(row, form) for row, (_, _, forms, _) in ROWS.items() for form in forms]
)
def test_a_row_of_the_page(row: str, form: str) -> None:
    made, inputs, _, check = ROWS[row]
    session = opened(form, made, inputs)
    measured = session.measure()
    assert session.recorded
    assert measured.model.loss_at_start is not None
    assert check(session, measured)
    assert session.trial().runs
    assert all(
        torch.equal(value, session.weights.start[name]) for name, value in session.buffers.items()
    )


def test_branches_are_followed_batch_by_batch() -> None:
    session = opened("scripted", odd_models.Branches, NUMBERS, batches=8)
    measured = session.measure()
    assert not session.recorded
    assert {layer.name for layer in measured.layers} <= {"fc", "other", "head"}
    assert any("data_dependent" in note for note in measured.notes)


def test_packed_weights_are_refused_in_words() -> None:
    for form in NOT_EXPORTED:
        with pytest.raises(Untraceable, match="before it was quantized"):
            opened(form, odd_models.quantized, NUMBERS)


def test_the_page_has_a_line_for_every_row_and_no_other() -> None:
    told = re.findall(r"^\| ([^|]+?) \|", PAGE.read_text("utf-8"), re.M)
    rows = [one for one in told if one not in ("what", "---")]
    assert sorted(rows) == sorted([*ROWS, "branches on data", "packed weights"])


def opened(form: str, made: Made, inputs: InputPlan, *, batches: int = 2) -> Session:
    torch.manual_seed(0)
    module = made().train()
    plan = ProbePlan(batch_size=16, batches=batches, seeds=1, trial_steps=2)
    if form == "exported":
        file = saved(form, module, sample(inputs))
        return Session.open(plan, None, file, model_format="exported_program")
    given = ProbePlan((inputs,), batch_size=16, batches=batches, seeds=1, trial_steps=2)
    return Session.open(given, None, saved(form, module, sample(inputs)))


def sample(inputs: InputPlan) -> Tensor:
    if inputs.high is not None:
        return torch.randint(0, inputs.high, (16, *inputs.shape))
    return torch.randn(16, *inputs.shape)


def saved(form: str, module: nn.Module, example: Tensor) -> io.BytesIO:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "exported":
            torch.export.save(torch.export.export(module, (example,)), file)
        elif form == "traced":
            torch.jit.save(torch.jit.trace(module, example, check_trace=False, strict=False), file)
        else:
            torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    return file
