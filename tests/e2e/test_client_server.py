"""The client against the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graddx import (
    AnalysisFailed,
    AnalysisNotFound,
    Client,
    InvalidRequest,
    NotFinished,
    ShapeMismatch,
    UnknownLayerType,
    UnsupportedArtifact,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
SICK = EXAMPLES / "vanishing_sigmoid_mlp.json"
HEALTHY = EXAMPLES / "healthy_mlp.json"
IMAGES = {"inputs": [{"shape": [3, 32, 32]}]}


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


def test_a_sick_example(client: Client) -> None:
    analysis = client.analyze(SICK, labels={"test": "sick"})
    diagnosis = analysis.diagnosis
    assert (analysis.passed, diagnosis.verdict) == (False, "unhealthy")
    assert diagnosis.findings[0].code == "vanishing_gradient"
    assert diagnosis.findings[0].causes
    assert diagnosis.recommendations[0].code
    assert analysis.labels == {"example": "vanishing_sigmoid_mlp", "test": "sick"}
    assert client.layers(analysis.id) == diagnosis.layers
    assert len(diagnosis.layers) == analysis.model.layers == 21
    assert all(0 < (layer.gradient.gain or 0) < 1 for layer in diagnosis.layers)
    assert ("body.0.fc.weight", (64, 64)) in [
        (one.name, one.shape) for one in diagnosis.layers[0].parameters
    ]


def test_every_number_of_the_answer_is_read(client: Client) -> None:
    """Nothing that the server sent is lost on the way: each field equals what `raw` has."""
    analysis = client.analyze(HEALTHY)
    compare(analysis, analysis.raw)


def compare(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        for name, value in theirs.items():
            compare(ours[name] if isinstance(ours, dict) else getattr(ours, name), value)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            compare(our, their)
    elif hasattr(ours, "isoformat"):
        assert ours.isoformat()[:19] == theirs[:19]
    else:
        assert ours == theirs


def test_a_request_as_in_the_examples_and_a_spec_alone_are_the_same(client: Client) -> None:
    request = json.loads(HEALTHY.read_text())
    spec = {name: value for name, value in request["model"].items() if name != "kind"}
    shas = {client.analyze(model).model.sha256 for model in (HEALTHY, request, spec)}
    assert len(shas) == 1


def test_a_file_is_uploaded_and_analysed(client: Client, models: Path) -> None:
    analysis = client.analyze(models / "healthy.pt", probe=IMAGES)
    assert (analysis.passed, analysis.model.format) == (True, "torchscript")
    assert client.put_artifact(models / "healthy.pt").id == f"sha256:{analysis.model.sha256}"


def test_a_failed_analysis_says_why(client: Client, models: Path) -> None:
    with pytest.raises(AnalysisFailed, match="this model does not work") as raised:
        client.analyze(models / "raising.pt", probe=IMAGES)
    assert raised.value.code == "model_raised"


def test_time_runs_out_and_the_analysis_goes_on(client: Client) -> None:
    with pytest.raises(NotFinished) as raised:
        client.analyze(SICK, fresh=True, wait=0)
    assert client.wait(raised.value.analysis.id).status == "succeeded"


def test_ignored_findings_are_told(client: Client) -> None:
    analysis = client.analyze(SICK, ignore=[{"code": "rank_collapse", "reason": "known"}])
    suppressed = {one.code: one.reason for one in analysis.diagnosis.suppressed}
    assert suppressed == {"rank_collapse": "known"}


def test_what_waits_can_be_cancelled_and_deleted(client: Client) -> None:
    *others, last = [
        client.submit(SICK, labels={"test": "cancel"}, fresh=True).id for _ in range(8)
    ]
    assert client.cancel(last).status == "cancelled"
    assert client.cancel(last).status == "cancelled"
    listed = [one.id for one in client.list(labels={"test": "cancel"})]
    assert listed == [last, *reversed(others)]
    for analysis_id in (last, *others):
        client.delete(analysis_id)
        with pytest.raises(AnalysisNotFound):
            client.get(analysis_id)
    assert list(client.list(labels={"test": "cancel"})) == []


@pytest.mark.parametrize(
    ("layer", "kind", "pointer"),
    [
        ({"type": "ReLu"}, UnknownLayerType, "/model/layers/0/type"),
        (
            {"type": "Linear", "args": {"in_features": 3, "out_features": 2}},
            ShapeMismatch,
            "/model/layers/0/args/in_features",
        ),
        ({"type": "ReLU", "colour": "red"}, InvalidRequest, "/model/layers/0/colour"),
    ],
)
def test_specs_that_are_wrong(
    client: Client, layer: dict[str, Any], kind: type[InvalidRequest], pointer: str
) -> None:
    with pytest.raises(kind) as raised:
        client.analyze({"input": {"shape": [64]}, "layers": [layer]})
    assert pointer in [fault.pointer for fault in raised.value.errors]


def test_a_file_that_is_no_model(client: Client, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"not a model")
    with pytest.raises(UnsupportedArtifact):
        client.analyze(tmp_path / "net.pt")


def test_the_catalog(client: Client) -> None:
    catalog = client.catalog()
    assert "vanishing_gradient" in [one.code for one in catalog.detectors]
    assert "ReLU" in catalog.activations
    assert {"Linear", "LSTM"} <= {one.name for one in catalog.layer_types}


UPLOAD = """
import resource, sys
from graddx import Client, UnsupportedArtifact
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Client(sys.argv[1]) as client:
    try:
        client.analyze(sys.argv[2])
    except UnsupportedArtifact:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_file_is_never_held_in_memory(server: str, tmp_path: Path) -> None:
    large = tmp_path / "net.pt"
    with large.open("wb") as file:
        file.truncate(200 << 20)
    run = subprocess.run(
        [sys.executable, "-c", UPLOAD, server, large], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 20 << 10, "KiB"


EXPORT = """
import sys, torch
from torch import nn
from graddx import Client, ExportFailed

class Variadic(nn.Module):
    "torch.jit.script refuses *inputs."
    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)
    def forward(self, *inputs):
        return self.head(torch.relu(self.norm(self.fc(inputs[0]))))

class Branching(nn.Module):
    "What is traced would be one branch alone."
    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(8, 3), nn.Linear(8, 3)
    def forward(self, x):
        return self.large(x) if x.shape[0] > 4 else self.small(x)

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, 3)
    def forward(self, *inputs):
        return self.head(self.embed(inputs[0]).mean(1))

class Broken(nn.Module):
    def forward(self, *inputs):
        raise RuntimeError("this module does not work")

FEATURES = {"inputs": [{"shape": [8]}]}
with Client(sys.argv[1]) as client:
    variadic = Variadic()
    state = torch.random.get_rng_state()
    names = [layer.name for layer in client.analyze(variadic, probe=FEATURES).diagnosis.layers]
    assert {"fc", "head"} <= set(names), names
    assert variadic.training and not variadic.norm.running_mean.any(), "left as it was"
    assert torch.equal(state, torch.random.get_rng_state())

    names = [layer.name for layer in client.analyze(Branching(), probe=FEATURES).diagnosis.layers]
    assert names == ["large"], names

    tokens = {"inputs": [{"shape": [7], "dtype": "int64", "high": 50}]}
    assert client.analyze(Tokens(), probe=tokens).model.parameters == 50 * 16 + 16 * 3 + 3

    for module, probe, reason in (
        (Broken(), FEATURES, "torch.jit.trace: this module does not work"),
        (variadic, None, 'torch.jit.trace: needs probe={"inputs"'),
    ):
        try:
            client.submit(module, probe=probe)
        except ExportFailed as error:
            assert reason in str(error) and "torch.jit.script: " in str(error), error
        else:
            raise AssertionError("exported")
print("done")
"""


def test_modules_are_exported(server: str, tmp_path: Path) -> None:
    """Warnings as errors: what torch says of its own exporters is not for the caller."""
    program = tmp_path / "program.py"
    program.write_text(EXPORT)
    run = subprocess.run(
        [sys.executable, "-W", "error", program, server],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "done\n", run.stderr
