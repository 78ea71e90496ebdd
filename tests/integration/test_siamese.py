"""Two towers of the same layers, as Keras writes them, through the whole story."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from service.domain.architecture import resolve
from service.domain.expanded import expanded
from service.domain.findings import Verdict
from service.domain.keras import translate
from service.domain.model_source import SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.pipeline import analyse
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.source import pytorch_source
from service.verification.notes import HALF_WAY, NOTHING_FOUND

DEPTH, WIDTH = 10, 16
SMALL = {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.02}}
PLAN = ProbePlan(batch_size=32, batches=2, seeds=2, trial_steps=60, budget_seconds=600)
"""Generous: a busy machine must not cut it."""


@pytest.fixture(scope="module")
def prober() -> Iterator[ZygoteProber]:
    prober = ZygoteProber(
        Limits(), "service.probing.child:serve", "service.probing.child:warm_up", Path
    )
    yield prober
    prober.close()


def layer(kind: str, name: str, *taken: str, **config: Any) -> dict[str, Any]:
    """`taken`: names of layers, or name:n for their nth use."""
    uses = [one.partition(":") for one in taken]
    tensors = [
        {
            "class_name": "__keras_tensor__",
            "config": {"keras_history": [name, int(use or 0), 0]},
        }
        for name, _, use in uses
    ]
    nodes = [{"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}}] if taken else []
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": nodes,
    }


def siamese(merge: str, **dense: Any) -> dict[str, Any]:
    """A tower, used on the left input and on the right one."""
    given = {"batch_shape": [None, WIDTH]}
    hidden = [layer("Dense", f"fc{n}", units=WIDTH, **dense) for n in range(DEPTH)]
    tower = layer("Sequential", "tower", "left")
    tower["config"]["layers"] = [layer("InputLayer", "seen", **given), *hidden]
    tower["inbound_nodes"] += layer("Sequential", "tower", "right")["inbound_nodes"]
    layers = [
        layer("InputLayer", "left", **given),
        layer("InputLayer", "right", **given),
        tower,
        layer(merge, "joined", "tower", "tower:1"),
        layer("Dense", "head", "joined", units=3),
    ]
    config = {
        "layers": layers,
        "input_layers": [["left", 0, 0], ["right", 0, 0]],
        "output_layers": [["head", 0, 0]],
    }
    return {"module": "keras", "class_name": "Functional", "config": config}


def report_on(prober: ZygoteProber, model: dict[str, Any]) -> Report:
    request = AnalysisRequest(ModelRequest("keras", model), PLAN)
    spec = translate(model).spec
    return analyse(request, SpecSource(resolve(spec)), prober, lambda _: None)


def shared(spec: Any) -> dict[str, str]:
    return {one["name"]: one["shares"] for one in spec["layers"] if "shares" in one}


@pytest.mark.parametrize("merge", ["Concatenate", "Dot"])
def test_small_weights_are_drawn_anew_for_both_towers(prober: ZygoteProber, merge: str) -> None:
    model = siamese(merge, activation="relu", kernel_initializer=SMALL)
    report = report_on(prober, model)
    assert report.diagnosis.verdict is Verdict.UNHEALTHY
    assert report.prescription is not None
    assert report.prescription.verdict_after == "healthy"
    repaired = report.prescription.patched_spec
    assert repaired is not None
    assert len(shared(repaired)) >= DEPTH
    submitted = expanded(resolve(translate(model).spec))
    assert shared(repaired).items() >= shared(submitted).items()
    again = analyse(
        AnalysisRequest(ModelRequest("spec", repaired), PLAN),
        SpecSource(resolve(repaired)),
        prober,
        lambda _: None,
    )
    assert again.diagnosis.verdict is Verdict.HEALTHY


def test_the_source_of_the_repaired_model_has_one_tower(prober: ZygoteProber) -> None:
    report = report_on(prober, siamese("Subtract", activation="relu", kernel_initializer=SMALL))
    assert report.prescription is not None
    room: dict[str, Any] = {}
    exec(pytorch_source(report.prescription.patched_spec or {}), room)
    repaired: nn.Module = room["RepairedModel"]().eval()
    assert sum(isinstance(one, nn.Linear) for one in repaired.modules()) == DEPTH + 1
    alike = torch.randn(4, WIDTH)
    answers = repaired(alike, alike)
    torch.testing.assert_close(answers, answers[:1].expand_as(answers))
    other = repaired(alike, torch.randn(4, WIDTH))
    assert not torch.allclose(other, answers)


@pytest.mark.parametrize("merge", ["Concatenate", "Dot"])
def test_what_no_change_cures_is_told(prober: ZygoteProber, merge: str) -> None:
    report = report_on(prober, siamese(merge, activation="sigmoid"))
    assert report.diagnosis.verdict is Verdict.UNHEALTHY
    assert {one.kind for one in report.recommendations} >= {"normalization", "residual"}
    why = NOTHING_FOUND if report.prescription is None else HALF_WAY.partition(" (")[0]
    assert any(note.startswith(why) for note in report.notes)
