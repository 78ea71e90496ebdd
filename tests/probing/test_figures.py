"""What is reckoned of many tensors at once is what torch says of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.domain.probe_plan import InputPlan, ProbePlan
from service.probing import figures
from service.probing.figures import Extent, Gradient, Norm, Output, Outside, reckoned
from service.probing.gathering import Gathering
from service.probing.layering import layers_of
from service.probing.loaders.loaded import loaded
from service.probing.norms import norms_of
from service.probing.probe import Seed
from service.probing.recorder import Observed
from service.probing.session import Session
from service.probing.trace import record

SHAPES = [(8, 32), (4, 6, 5, 5), (3, 7, 11), (2, 70_001)]
SCALES = [1.0, 1e-30, 1e30, 1e-41]


def drawn(shape: tuple[int, ...], scale: float) -> Tensor:
    """Half of it zero, no symmetry, one unit never active."""
    torch.manual_seed(0)
    tensor = torch.randn(shape).add_(0.3).relu_()
    tensor.select(1, 0).zero_()
    return tensor.double().mul_(scale).float()


def exact(reduction: figures.Reduction, tensor: Tensor) -> Tensor:
    """The way of an accelerator."""
    return reduction.reckon(tensor.unsqueeze(0), exact=True)


WAYS: dict[str, Callable[[figures.Reduction, Tensor], Tensor]] = {
    "as on the CPU": lambda reduction, tensor: reckoned(reduction, tensor.unsqueeze(0)),
    "stacked": lambda reduction, t: reckoned(reduction, torch.stack([torch.ones_like(t), t]))[1:],
    "exact": exact,
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs(
    shape: tuple[int, ...], scale: float, way: Callable[[figures.Reduction, Tensor], Tensor]
) -> None:
    tensor = drawn(shape, scale)
    wide = tensor.double() / scale
    rows = wide.flatten(1)
    output = Output(1 if len(shape) == 4 else -1, True)
    (seen,) = output.read(way(output, tensor), tensor.shape)
    units = wide.movedim(1, -1) if len(shape) == 4 else wide
    near = 3e-3 if scale == 1e-41 else 1e-5
    assert seen.norms.norm == pytest.approx(float(wide.norm()) * scale, rel=near)
    assert seen.norms.rows.div(scale).tolist() == pytest.approx(rows.norm(dim=1).tolist(), rel=near)
    assert seen.mean == pytest.approx(float(wide.mean()) * scale, rel=near)
    assert seen.std == pytest.approx(float(wide.std(correction=0)) * scale, rel=near)
    assert seen.abs_max == pytest.approx(float(wide.max()) * scale, rel=near)
    assert seen.active.bool().tolist() == (units.flatten(0, -2) != 0).any(0).tolist()
    share = float((wide == 0).double().mean())
    assert seen.zero_fraction == pytest.approx(share, abs=1e-12 if wide.numel() < 1 << 14 else 0.02)
    unit = rows / rows.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T
    pairs = len(rows) * (len(rows) - 1)
    expected = float(cosines.sum() - len(rows)) / pairs
    assert seen.correlation == pytest.approx(expected, rel=near, abs=1e-6)


@each_way
@pytest.mark.parametrize("scale", SCALES)
def test_gradients(scale: float, way: Callable[[figures.Reduction, Tensor], Tensor]) -> None:
    tensor = drawn((4, 50), scale)
    (seen,) = Gradient().read(way(Gradient(), tensor))
    present = tensor[tensor != 0].abs()
    near = 3e-3 if scale == 1e-41 else 1e-5
    assert seen.norms.norm == pytest.approx(float(tensor.double().norm()), rel=near)
    assert seen.abs_max == pytest.approx(float(tensor.max()), rel=near)
    assert seen.zero_fraction == pytest.approx(float((tensor == 0).double().mean()), abs=1e-12)
    lost = float((present.half() == 0).double().mean())
    assert seen.underflow_fraction == pytest.approx(lost, abs=1e-6)


@each_way
def test_what_is_not_finite_is_counted(way: Callable[[figures.Reduction, Tensor], Tensor]) -> None:
    tensor = drawn((4, 50), 1.0)
    tensor[1, 2], tensor[3, 4], tensor[0, 0] = math.nan, math.inf, -math.inf
    output = Output(-1, True)
    (of_output,) = output.read(way(output, tensor), tensor.shape)
    (of_gradient,) = Gradient().read(way(Gradient(), tensor))
    (of_parameter,) = Extent().read(way(Extent(), tensor), tensor.numel())
    assert (of_output.norms.nonfinite, of_gradient.norms.nonfinite) == (3, 3)
    assert of_parameter.nonfinite == 3
    assert of_output.mean is of_output.std is of_output.abs_max is of_output.correlation is None
    assert of_gradient.abs_max is of_parameter.norm is None
    assert Norm().read(way(Norm(), tensor))[0].norm is None


@each_way
def test_how_far_from_one(way: Callable[[figures.Reduction, Tensor], Tensor]) -> None:
    """Samples that hardly differ: 1 − cosine is 5e-9, which float32 cannot hold."""
    torch.manual_seed(0)
    tensor = (1.0 + 1e-4 * torch.randn(16, 64)).float()
    unit = torch.nn.functional.normalize(tensor.double(), dim=1)
    expected = 1.0 - float(unit.sum(0).square().sum() - 16) / (16 * 15)
    output = Output(-1, True)
    (seen,) = output.read(way(output, tensor), tensor.shape)
    assert seen.correlation is not None
    assert 1.0 - seen.correlation == pytest.approx(expected, rel=1e-3)
    assert seen.std == pytest.approx(float(tensor.double().std(correction=0)), rel=1e-4)


def test_shares_outside_bounds() -> None:
    tensor = torch.tensor([[-2.0, -1.0, 0.0, 3.0]])
    assert Outside(-1.0, 2.0).read(reckoned(Outside(-1.0, 2.0), tensor[None])) == [0.75]
    assert Outside(None, 3.0).read(reckoned(Outside(None, 3.0), tensor[None])) == [0.25]


def test_norms_of_any_scale() -> None:
    tensors = [
        torch.full((n,), s) for n in (3, 5000) for s in (1.0, 1e-15, 1e-25, 1e-40, 1e30, 0.0)
    ]
    norms = norms_of(tensors).tolist()
    assert norms == pytest.approx([float(t.double().norm()) for t in tensors], rel=1e-4)
    assert math.isnan(norms_of([torch.tensor([math.inf, 1.0])])[0])


def test_numbers_come_in_the_order_of_the_tensors() -> None:
    gathering = Gathering()
    told: list[list[float]] = []
    for size in (1.0, 2.0, 3.0, 4.0):
        gathering.add(Norm(), torch.full((2, 2, 2), size), lambda r: told.append(r[:, 2].tolist()))
    assert told == []
    gathering.read()
    assert told == [pytest.approx([2.0 * size] * 2) for size in (1.0, 2.0, 3.0, 4.0)]


def test_a_pass_reads_nothing_back_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device there is nothing to read: every number asked for early would raise."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model.extend([nn.Linear(144, 8), nn.Sigmoid(), nn.Linear(8, 5)])
    plan = ProbePlan(inputs=(InputPlan((3, 8, 8)),), batch_size=4, trial_steps=0)
    session = Session(loaded("spec", model, mode="train", dtype=torch.float32), plan)
    model.to("meta")
    parameters = dict(model.named_parameters())
    inputs = (torch.empty(4, 3, 8, 8, device="meta"),)
    recording = record(model, parameters, dict(model.named_buffers()), inputs)
    read: list[Any] = []

    def noted(gathering: Gathering) -> None:
        read.append(gathering)

    monkeypatch.setattr(Gathering, "read", noted)
    observed = Observed(recording, layers_of(recording.module.graph, parameters))
    batch = session.batch(0, 0)
    there = type(batch)(
        tuple(tensor.to("meta") for tensor in batch.inputs),
        batch.seed,
        lambda _, loss: loss.target(torch.Size((4, 5)), torch.float32, torch.Generator()).to(
            "meta"
        ),
    )
    seed = Seed(observed, recording)
    monkeypatch.setattr("service.probing.probe.add", lambda own, taken: None)
    seed.run(there, session.loss)
    assert read == [observed.watch.gathering]
