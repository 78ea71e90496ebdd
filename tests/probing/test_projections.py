"""A skip by a projection: the same in the recorded graph, the repaired spec, weights and code."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor, nn

from service.domain.architecture import resolve
from service.domain.errors import ChangeRefused
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.recommendations import Recommendation
from service.domain.state_dict import renamed
from service.probing.loaders import spec as loader
from service.probing.session import Session
from service.recommendation import recommend
from service.recommendation.repaired import repaired
from tests.probing.models import saved, scripted
from tests.probing.test_edit_properties import REPEATABLE
from tests.unit.recommendation.remedy_cases import diagnosis, linear, patched

PLAN = ProbePlan(batch_size=16, batches=1, seeds=2)
Spec = dict[str, Any]
MATRIX = 2


def bottleneck(*widths: int, norm: str | None = None, init: Spec | None = None) -> Spec:
    """Linear layers of these widths, the last of which gives the output."""
    layers: list[Spec] = []
    for number, width in enumerate(widths):
        layers.append(linear(f"fc{number}", width, init))
        if norm and number < len(widths) - 1:
            layers.append({"name": f"norm{number}", "type": norm})
        layers.append({"name": f"act{number}", "type": "Tanh"})
    return {"input": {"shape": [12]}, "layers": layers[:-1]}


def images(stride: int, pool: bool) -> Spec:
    """Four convolutions with a single channel between, sizes halved on the way."""
    layers: list[Spec] = []
    for number, channels in enumerate((6, 1, 9, 4)):
        args = {"out_channels": channels, "kernel_size": 3, "padding": 1}
        args |= {"stride": stride if number == 2 else 1}
        layers.append({"name": f"conv{number}", "type": "Conv2d", "args": args})
        layers.append({"name": f"act{number}", "type": "ReLU"})
        if pool and number == 1:
            layers.append({"name": "pool", "type": "MaxPool2d", "args": {"kernel_size": 2}})
    layers += [{"name": "flat", "type": "Flatten"}, linear("head", 10)]
    return {"input": {"shape": [3, 7, 7]}, "layers": layers}


SPECS = {
    "into the output": bottleneck(12, 1, 10),
    "behind an identity": bottleneck(12, 2, 12, 2, 10, norm="LayerNorm"),
    "from the input": bottleneck(1, 8, 8, 10),
    "over three layers": bottleneck(12, 3, 2, 10, norm="BatchNorm1d"),
    "at every position": bottleneck(12, 1, 10) | {"input": {"shape": [5, 12]}},
    "strided": images(2, pool=False),
    "pooled": images(1, pool=True),
}


def opened(spec: Spec, plan: ProbePlan = PLAN) -> Session:
    return Session.open(plan, resolve(spec), None)


def advised(session: Session, spec: Spec | None) -> Recommendation:
    (one,) = recommend(
        diagnosis("narrow_layer"),
        session.measure(),
        architecture=None if spec is None else resolve(spec),
        batch_size=16,
        allowed_changes=("residual",),
    )
    assert one.change["projections"]
    return one


def as_edit(one: Recommendation) -> Spec:
    return {"kind": one.kind, "layers": list(one.layers), **one.change}


def weights(session: Session, *changes: Spec) -> dict[str, Tensor]:
    return load(file_of(session, *changes))


def file_of(session: Session, *changes: Spec) -> bytes:
    file = io.BytesIO()
    session.export(file, changes)
    return file.getvalue()


def without_chance(parameter: Tensor) -> None:
    fill = nn.init.eye_ if parameter.ndim == MATRIX else nn.init.dirac_
    fill(parameter) if parameter.ndim >= MATRIX else nn.init.constant_(parameter, 0.1)


@pytest.mark.parametrize("name", SPECS)
def test_graph_spec_patch_and_weights_are_one_network(name: str) -> None:
    document = SPECS[name]
    before = resolve(document)
    session = opened(document, ProbePlan(batch_size=8, batches=1, seeds=1))
    one = advised(session, document)
    done = repaired(before, [as_edit(one)])
    assert done is not None
    assert one.patch is not None
    rebuilt = [loader.build(resolve(done.spec)), loader.build(patched(document, one.patch))]
    content = load(renamed(file_of(session, as_edit(one)), done.names))
    assert content.keys() == rebuilt[0].state_dict().keys()
    rebuilt[0].load_state_dict(content)
    same = zip(rebuilt[1].state_dict(), rebuilt[0].state_dict().values(), strict=True)
    rebuilt[1].load_state_dict(dict(same))
    changed = session.changed((as_edit(one),))
    changed.reset()
    x = torch.randn(8, *before.inputs[0].shape)
    expected = changed.forward(x)
    for model in rebuilt:
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("name", SPECS)
def test_the_code_makes_the_network_that_was_measured(name: str) -> None:
    document = SPECS[name]
    one = advised(opened(document), document)
    assert one.patch is not None
    architecture = resolve(document)
    model = nn.Sequential()
    for node in architecture.layers:
        model.add_module(node.name, getattr(nn, node.type)(**node.args))
    exec(compile(one.code, "advice", "exec"), {"model": model, "nn": nn})
    other = loader.build(patched(document, one.patch))
    for parameter in (*model.parameters(), *other.parameters()):
        without_chance(parameter)
    x = torch.randn(8, *architecture.inputs[0].shape)
    torch.testing.assert_close(model(x), other(x))


@pytest.mark.parametrize("name", ["into the output", "strided"])
def test_a_projection_keeps_the_mean_square(name: str) -> None:
    document = SPECS[name]
    one = advised(opened(document), document)
    ((_, said),) = one.change["projections"].items()
    torch.manual_seed(0)
    found = weights(opened(document), as_edit(one))[f"{said['name']}.weight"]
    rms = found.square().mean().sqrt().item()
    assert rms * found.shape[1] ** 0.5 == pytest.approx(1.0, rel=0.3)


def test_every_seed_draws_its_own_projection() -> None:
    document = bottleneck(12, 1, 10, init={"weight": {"name": "eye_"}, "bias": {"name": "zeros_"}})
    change = as_edit(advised(opened(document), document)) | {"parameters": []}
    layers = opened(document).measure((change,)).layers
    (added,) = (layer for layer in layers if layer.name == "fc2_projection")
    low, high = added.spread["gradient.gain"]
    assert low < high


@st.composite
def narrowing(draw: st.DrawFn) -> tuple[Spec, Spec]:
    """A stack, and a skip around two or three of its layers by a projection."""
    widths = draw(st.lists(st.integers(1, 12), min_size=3, max_size=6))
    norm = draw(st.sampled_from((None, "BatchNorm1d", "LayerNorm")))
    end = draw(st.integers(1, len(widths) - 1))
    begin = draw(st.integers(max(0, end - 2), end - 1))
    read = widths[begin - 1] if begin else 12
    args = {"in_features": read, "out_features": widths[end], "bias": False}
    change = {
        "kind": "residual",
        "layers": [f"fc{end}"],
        "begins": {f"fc{end}": f"fc{begin}"},
        "projections": {f"fc{end}": {"name": "around", "type": "Linear", "args": args}},
        "parameters": [],
    }
    return bottleneck(*widths, norm=norm), change


@REPEATABLE
@given(drawn=narrowing())
def test_a_projection_changes_what_it_names_alone(drawn: tuple[Spec, Spec]) -> None:
    document, change = drawn
    session = opened(document, replace(PLAN, seeds=1))
    before, start = session.measure(), weights(session)
    edited = {layer.name: layer for layer in session.measure((change,)).layers}
    after = weights(session, change)
    assert after.keys() - start.keys() == {"around.weight"}
    assert all(torch.equal(after[name], value) for name, value in start.items())
    assert edited.keys() - {layer.name for layer in before.layers} == {"around"}
    for layer in before.layers:
        now = edited[layer.name]
        assert (now.op, now.nonlinearity, now.normalization) == (
            layer.op, layer.nonlinearity, layer.normalization
        )  # fmt: skip
    assert session.measure() == before


@REPEATABLE
@given(drawn=narrowing())
def test_the_spec_says_the_same(drawn: tuple[Spec, Spec]) -> None:
    document, change = drawn
    session = opened(document, replace(PLAN, seeds=1))
    done = repaired(resolve(document), [change])
    assert done is not None
    rebuilt = loader.build(resolve(done.spec))
    rebuilt.load_state_dict(load(renamed(file_of(session, change), done.names)))
    changed = session.changed((change,))
    changed.reset()
    x = torch.randn(16, 12)
    assert torch.equal(rebuilt(x), changed.forward(x))


class Narrow(nn.Module):
    """A file's: there is no spec of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.narrow, self.head = nn.Linear(12, 12), nn.Linear(12, 1), nn.Linear(1, 10)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(torch.tanh(self.narrow(torch.tanh(self.first(x)))))
        return answer


def test_files_get_projections_too() -> None:
    plan = ProbePlan(inputs=(InputPlan((12,)),), batch_size=8, batches=1, seeds=1, trial_steps=3)
    session = Session.open(plan, None, saved(scripted(Narrow())))
    before = session.measure()
    one = advised(session, None)
    assert one.patch is None
    assert "p = nn.Linear(in_features=12, out_features=10, bias=False)" in one.code
    after = session.measure((as_edit(one),))
    assert {layer.name for layer in after.layers} == {"first", "narrow", "head", "head_projection"}
    session.trial((as_edit(one),))
    assert session.measure() == before


@pytest.mark.parametrize(
    ("projection", "says"),
    [
        ({"type": "Linear", "args": {"in_features": 12, "out_features": 9}}, "gives .9,. where"),
        ({"type": "Linear", "args": {"in_features": 11, "out_features": 10}}, "no Linear with"),
        ({"type": "Linear", "args": {"width": 10}}, "no Linear with"),
        ({"type": "Bilinear", "args": {}}, "is no projection"),
        ({"name": "a.b", "type": "Linear"}, "no name for another module"),
        ({"name": "named_children", "type": "Linear"}, "no name for another module"),
    ],
)
def test_what_does_not_fit_is_refused(projection: Spec, says: str) -> None:
    session = opened(bottleneck(12, 1, 10))
    before = session.measure()
    change = {
        "kind": "residual",
        "layers": ["fc2"],
        "begins": {"fc2": "fc1"},
        "projections": {"fc2": {"name": "around", **projection}},
    }
    with pytest.raises(ChangeRefused, match=says):
        session.measure((change,))
    assert session.measure() == before
