"""An edit changes what it names and nothing else; no change changes nothing, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

from service.domain.architecture import resolve
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session

REPEATABLE = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PLAN = ProbePlan(batch_size=8, batches=1, seeds=1)
ACTIVATIONS = ("Tanh", "ReLU", "Sigmoid", "GELU", "ELU", "Softplus")
NORMS = (None, "BatchNorm1d", "LayerNorm")
WIDTH = 12
Spec = dict[str, Any]
Change = dict[str, Any]


@st.composite
def stacks(draw: st.DrawFn) -> Spec:
    """Up to five hidden layers of one width, each with its own activation and normalization."""
    layers: list[Spec] = []
    for index in range(draw(st.integers(2, 5))):
        layers.append({"name": f"fc{index}", "type": "Linear", "args": {"out_features": WIDTH}})
        if norm := draw(st.sampled_from(NORMS)):
            layers.append({"name": f"norm{index}", "type": norm})
        layers.append({"name": f"act{index}", "type": draw(st.sampled_from(ACTIVATIONS))})
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 5}})
    return {"input": {"shape": [WIDTH]}, "layers": layers}


def hidden(spec: Spec) -> list[str]:
    return [layer["name"] for layer in spec["layers"] if layer["name"].startswith("fc")]


@st.composite
def edits(draw: st.DrawFn, spec: Spec) -> list[Change]:
    """Some of all kinds, each of some layers."""
    names = st.lists(st.sampled_from(hidden(spec)), unique=True, min_size=1)
    norm = {"type": "LayerNorm", "args": {"normalized_shape": WIDTH}}
    kinds: dict[str, Callable[[list[str]], Change]] = {
        "initializer": lambda chosen: {
            "parameters": [
                {"parameter": f"{name}.weight", "initializer": "orthogonal_"} for name in chosen
            ]
        },
        "normalization": lambda chosen: {"layers": [{"after": name, **norm} for name in chosen]},
        "activation": lambda chosen: {"layers": chosen, "activation": "Softsign"},
        "residual": lambda chosen: {"layers": chosen},
        "input_scaling": lambda _: {"normalization": norm},
    }
    wanted = draw(st.lists(st.sampled_from(sorted(kinds)), unique=True, min_size=1, max_size=3))
    order = [kind for kind in kinds if kind in wanted]
    return [{"kind": kind, **kinds[kind](draw(names))} for kind in order]


def weights(session: Session, changes: tuple[Change, ...] = ()) -> dict[str, Tensor]:
    file = io.BytesIO()
    session.export(file, changes)
    return load(file.getvalue())


def output(session: Session) -> Tensor:
    session.reset()
    (x,) = session.feed.inputs(session.batch_size, 0, 0)
    with torch.no_grad():
        answer = session.forward(x).clone()
    session.restore()
    return answer


@REPEATABLE
@given(spec=stacks())
def test_no_change_changes_nothing(spec: Spec) -> None:
    session = Session.open(PLAN, resolve(spec), None)
    before, answer, start = session.measure(), output(session), weights(session)
    nothing = session.changed(({"kind": "initializer", "parameters": []},))
    assert nothing.measure() == before
    assert torch.equal(output(nothing), answer)
    after = weights(nothing)
    assert after.keys() == start.keys()
    assert all(torch.equal(after[name], start[name]) for name in start)


@REPEATABLE
@given(data=st.data(), spec=stacks())
def test_an_edit_changes_what_it_names_alone(data: st.DataObject, spec: Spec) -> None:
    session = Session.open(PLAN, resolve(spec), None)
    before, answer, start = session.measure(), output(session), weights(session)
    changes = tuple(data.draw(edits(spec)))
    edited = session.measure(changes)
    drawn = {one["parameter"] for change in changes for one in change.get("parameters", ())}
    after = weights(session, changes)
    for name, value in start.items():
        assert torch.equal(after[name], value) == (name not in drawn), name
    added = {name for name in after if name not in start}
    assert all("_norm" in name for name in added)  # what a normalization brings, and no more
    _only_where_named(spec, changes, edited.layers, before.layers)
    assert session.measure() == before
    assert torch.equal(output(session), answer)


def _only_where_named(
    spec: Spec, changes: tuple[Change, ...], after: tuple[Any, ...], before: tuple[Any, ...]
) -> None:
    """Layers keep their nonlinearity, normalization and way around but for those named."""
    named: dict[str, set[str]] = {change["kind"]: set() for change in changes}
    for change in changes:
        for one in change.get("layers", ()):
            named[change["kind"]].add(one["after"] if isinstance(one, dict) else one)
    found = {layer.name: layer for layer in after}
    for layer in before:
        now = found[layer.name]
        swapped = layer.name in named.get("activation", set())
        assert now.nonlinearity == ("softsign" if swapped else layer.nonlinearity)
        if layer.name not in named.get("normalization", set()) and "input_scaling" not in named:
            assert now.normalization == layer.normalization
        joined = layer.name in named.get("residual", set())
        assert joined or now.residual == layer.residual
    assert {layer.name for layer in after} - {layer.name for layer in before} <= {"input_norm"}
    assert hidden(spec) == [layer.name for layer in before][:-1]
