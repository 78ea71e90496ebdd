"""The probing room behind the wall: whole jobs in sealed children, of one thread and of two."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import REHEARSE, WARM_UP_SYMBOLIC
from service.domain.architecture import resolve
from service.domain.errors import InternalError
from service.domain.model_source import ArtifactSource, ModelSource, SpecSource
from service.domain.probe_plan import InputPlan, ProbePlan
from service.sandbox.limits import Limits
from service.sandbox.prober import ZygoteProber
from service.sandbox.seal import why_unsealable

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")

SPECS: dict[str, dict[str, Any]] = {
    "mlp": {
        "input": {"shape": [8]},
        "layers": [
            {"type": "Linear", "args": {"out_features": 16}},
            {"type": "Tanh"},
            {
                "type": "Linear",
                "args": {"out_features": 3},
                "init": {"weight": {"name": "orthogonal_"}},
            },
        ],
    },
    "convolutions": {
        "input": {"shape": [3, 16, 16]},
        "layers": [
            {"type": "Conv2d", "args": {"out_channels": 8, "kernel_size": 3, "padding": 1}},
            {"type": "BatchNorm2d"},
            {"type": "ReLU"},
            {"type": "Conv2d", "args": {"out_channels": 16, "kernel_size": 3, "stride": 2}},
            {"type": "GELU"},
            {"type": "AdaptiveAvgPool2d", "args": {"output_size": 1}},
            {"type": "Flatten"},
            {"type": "Linear", "args": {"out_features": 4}},
        ],
    },
    "recurrent": {
        "input": {"shape": [12], "dtype": "int64", "high": 30},
        "layers": [
            {"type": "Embedding", "args": {"num_embeddings": 30, "embedding_dim": 8}},
            {"type": "LSTM", "args": {"hidden_size": 8}},
            {"type": "LastStep"},
            {"type": "Linear", "args": {"out_features": 2}},
        ],
    },
    "transformer": {
        "input": {"shape": [6, 16]},
        "layers": [
            {"type": "TransformerEncoderLayer", "args": {"nhead": 2, "dim_feedforward": 32}},
            {"type": "LastStep"},
            {"type": "Linear", "args": {"out_features": 2}},
        ],
    },
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    path = tmp_path_factory.mktemp("models") / "scripted.pt"
    module = torch.nn.Sequential(
        torch.nn.Conv1d(2, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from tests.probing.exported import ANY, Transformer
    from tests.probing.exported import exported as saved

    path = tmp_path_factory.mktemp("models") / "exported.pt2"
    example = (torch.ones(3, 6, dtype=torch.int64), torch.ones(3, 6))
    path.write_bytes(saved(Transformer(), example, ({0: ANY}, {0: ANY})).getvalue())
    return path


@pytest.fixture(scope="module", params=[1, 2], ids=["one thread", "two threads"])
def prober(
    request: pytest.FixtureRequest, scripted: Path, exported: Path
) -> Iterator[ZygoteProber]:
    children = "tests.integration.probing_children"
    prober = ZygoteProber(
        Limits(wall_seconds=120),
        f"{children}:serve",
        f"{children}:warm_up",
        lambda name: exported if name == "sha256:2" else scripted,
        rehearse=REHEARSE,
        warm_up_symbolic=WARM_UP_SYMBOLIC,
        threads=request.param,
    )
    yield prober
    prober.close()


def test_a_sealed_child_tells_how_far_its_probe_is(prober: ZygoteProber) -> None:
    wide = {"name": "fc", "type": "Linear", "args": {"out_features": 1024}}
    spec = {"input": {"shape": [1024]}, "layers": [{"repeat": 4, "name": "body", "layers": [wide]}]}
    told: list[float] = []
    plan = ProbePlan(batch_size=512, batches=32, seeds=2, trial_steps=0)
    with prober.open(SpecSource(resolve(spec)), plan, told.append) as session:
        assert told == []
        session.measure()
    assert told == sorted(set(told))
    assert len(told) >= 3
    assert 0 < told[0] < 0.5


@pytest.mark.parametrize("name", [*SPECS, "torchscript", "exported_program"])
def test_a_whole_job_runs_sealed_and_imports_nothing(prober: ZygoteProber, name: str) -> None:
    plan = ProbePlan(batch_size=4, batches=2, seeds=2, trial_steps=3)
    source: ModelSource = ArtifactSource("sha256:1", "torchscript")
    if name == "torchscript":
        plan = ProbePlan(inputs=(InputPlan((2, 8)),), batch_size=4, batches=2, trial_steps=3)
    elif name == "exported_program":
        source = ArtifactSource("sha256:2", "exported_program")
    else:
        source = SpecSource(resolve(SPECS[name]))
    with prober.open(source, plan) as session:
        assert session.measure().model.loss_at_start is not None
        assert session.trial().runs
        with pytest.raises(InternalError) as told:
            session.export()
    assert json.loads(told.value.detail) == []
