"""Real batches and given weights take the place of drawn ones."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.errors import ModelRaised
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing.data import read
from service.probing.session import Session
from tests.probing.models import mlp, saved, scripted

SPEC: dict[str, Any] = {
    "input": {"shape": [4]},
    "layers": [
        {"name": "fc", "type": "Linear", "args": {"out_features": 8}},
        {"name": "act", "type": "ReLU"},
        {"name": "head", "type": "Linear", "args": {"out_features": 3}},
    ],
}


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _broken_deflate() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(400.0).reshape(100, 4))
    content = bytearray(file.getvalue())
    content[120:160] = b"\xff" * 40
    return bytes(content)


BROKEN_DEFLATE = _broken_deflate()


def small(**given: Any) -> ProbePlan:
    return ProbePlan(**{"batch_size": 8, "batches": 1, "seeds": 1, **given})


def test_the_batch_is_the_data() -> None:
    x = torch.randn(8, 4) * 50 + 3
    data = save({"x": x, "y": torch.arange(8) % 3})
    session = Session.open(small(), resolve(SPEC), None, data=data)
    batch = session.batch(0, 0)
    assert sorted(batch.inputs[0].tolist()) == sorted(x.tolist())
    state = dict(session.parameters)
    logits = torch.relu(batch.inputs[0] @ state["fc.weight"].T + state["fc.bias"])
    logits = logits @ state["head.weight"].T + state["head.bias"]
    order = [x.tolist().index(row) for row in batch.inputs[0].tolist()]
    expected = nn.functional.cross_entropy(logits, torch.tensor(order) % 3)
    assert session.measure().model.loss_at_start == pytest.approx(expected.item(), rel=1e-6)


def test_npz_and_safetensors_are_alike() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 3
    one = Session.open(small(), resolve(SPEC), None, data=npz(x=x, y=y)).measure()
    content = save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)})
    other = Session.open(small(), resolve(SPEC), None, data=content).measure()
    assert one == other


def test_a_file_needs_no_inputs_when_data_shows_them() -> None:
    file = saved(scripted(mlp(2, 8, nn.ReLU, inputs=4, classes=3)))
    session = Session.open(small(), None, file, data=save({"x": torch.randn(32, 4)}))
    assert session.plan.inputs == (InputPlan((4,), "float32"),)
    assert session.measure().layers


def test_several_inputs_and_indices() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.fc = nn.Linear(4, 2)

        def forward(self, tokens: Tensor, shift: Tensor) -> Tensor:
            out: Tensor = self.fc(self.table(tokens).mean(1) + shift)
            return out

    data = save({"x1": torch.randn(6, 4), "x0": torch.randint(0, 10, (6, 5))})
    session = Session.open(small(), None, saved(scripted(Two())), data=data)
    assert [plan.dtype for plan in session.plan.inputs] == ["int64", "float32"]
    assert len(session.measure().layers) == 2


def test_few_rows_are_repeated() -> None:
    data = save({"x": torch.randn(3, 4)})
    session = Session.open(small(batch_size=8), resolve(SPEC), None, data=data)
    assert session.measure().model.output_shape == (8, 3)


def test_given_weights_are_measured_as_they_are() -> None:
    first = Session.open(small(seed=1), resolve(SPEC), None)
    file = io.BytesIO()
    first.export(file)
    again = Session.open(small(seed=2, seeds=3), resolve(SPEC), None, weights=file.getvalue())
    for name, value in first.parameters.items():
        assert torch.equal(value, again.parameters[name])
    rms = {layer.parameters[0].rms for layer in again.measure().layers[:1]}
    assert rms == {first.measure().layers[0].parameters[0].rms}


def test_buffers_may_be_left_out_of_weights_and_parameters_may_not() -> None:
    spec = SPEC | {"layers": [*SPEC["layers"], {"name": "norm", "type": "BatchNorm1d"}]}
    session = Session.open(small(seed=1), resolve(spec), None)
    parameters = {name: value.detach() for name, value in session.parameters.items()}
    again = Session.open(small(seed=2), resolve(spec), None, weights=save(parameters))
    assert torch.equal(again.buffers["norm.running_var"], torch.ones(3))
    given = save(parameters | {"norm.running_var": torch.full((3,), 5.0)})
    again = Session.open(small(seed=2), resolve(spec), None, weights=given)
    assert torch.equal(again.buffers["norm.running_var"], torch.full((3,), 5.0))
    assert torch.equal(again.parameters["fc.weight"], parameters["fc.weight"])
    for wrong in (
        {name: value for name, value in parameters.items() if name != "norm.bias"},
        parameters | {"more": torch.ones(1)},
        parameters | {"fc.bias": torch.ones(9)},
    ):
        with pytest.raises(ModelRaised, match=r"norm\.bias|more|fc\.bias"):
            Session.open(small(), resolve(spec), None, weights=save(wrong))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not safetensors"),
        (b"PK\x03\x04 nonsense", "not npz"),
        (npz(x=np.array([object()])), "not npz"),
        (npz(z=np.ones((4, 4))), "no x"),
        (npz(x=np.ones((4, 4)), y=np.ones(3)), "same number of rows"),
        (npz(x=np.ones((0, 4))), "at least one"),
        (BROKEN_DEFLATE, "not npz"),
        (npz(x=np.ones((4, 5))), r"a sample of the data is \(5,\), the model takes \(4,\)"),
        (npz(x=np.ones((4, 4)), x1=np.ones((4, 4))), "the data 2"),
    ],
)
def test_data_that_does_not_fit_says_why(content: bytes, says: str) -> None:
    with pytest.raises(ModelRaised, match=says):
        read(content, torch.float32, (InputPlan((4,)),))


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.full(8, 7), "classes 7 … 7, the model answers 3"),
        (np.ones(8, np.float32), "integer classes"),
        (np.ones((8, 2), np.int64), "integer classes of shape"),
    ],
)
def test_answers_that_do_not_fit_say_why(y: Any, says: str) -> None:
    data = npz(x=np.ones((8, 4), np.float32), y=y)
    with pytest.raises(ModelRaised, match=says):
        Session.open(small(), resolve(SPEC), None, data=data).measure()


def separable(rows: int) -> bytes:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(rows) % 3
    x = torch.eye(4)[y] * 4 + 0.3 * torch.randn(rows, 4, generator=generator)
    return save({"x": x, "y": y})


def test_the_short_training_learns_the_data() -> None:
    plan = small(batch_size=32, trial_steps=100)
    trial = Session.open(plan, resolve(SPEC), None, data=separable(200)).trial()
    assert trial.task == "data"
    assert {run.optimizer for run in trial.runs if run.learned} == {"sgd", "adam"}
    last = trial.runs[0]
    assert last.accuracy is not None
    assert last.accuracy > 0.6


def test_answers_without_a_pattern_are_not_learned_in_a_few_steps() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 4, generator=generator)
    y = torch.randint(0, 3, (4000,), generator=generator)
    plan = small(batch_size=64, trial_steps=60)
    trial = Session.open(plan, resolve(SPEC), None, data=save({"x": x, "y": y})).trial()
    assert not any(run.learned for run in trial.runs)


def test_regression_data_is_learned_against_its_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 4, generator=generator)
    y = x @ torch.randn(4, 3, generator=generator) + 5.0
    plan = small(batch_size=64, loss="mse", trial_steps=150)
    trial = Session.open(plan, resolve(SPEC), None, data=save({"x": x, "y": y})).trial()
    assert trial.task == "data"
    assert any(run.learned for run in trial.runs)
