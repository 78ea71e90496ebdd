"""From a sick model to a repaired one, as a user does it: over HTTP and on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from graddx import ArtifactNotFound, Client, NoPrescription

ROOT = Path(__file__).parents[2]
GRADDX = Path(sys.executable).with_name("graddx")
SICK = ROOT / "examples" / "vanishing_sigmoid_mlp.json"
HEALTHY = ROOT / "examples" / "healthy_mlp.json"
LOADED = """
import sys, torch
from safetensors.torch import load_file
from repaired import RepairedModel
model = RepairedModel()
model.load_state_dict(load_file(sys.argv[1]))
print(tuple(model(torch.zeros(2, 64)).shape))
"""


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture(scope="module")
def sick(client: Client) -> str:
    """Id of an analysis with a prescription."""
    return client.analyze(SICK).id


def run(command: list[Any], folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_code_and_weights_are_one_model(client: Client, sick: str, tmp_path: Path) -> None:
    (tmp_path / "repaired.py").write_text(client.prescription_code(sick), encoding="utf-8")
    client.download_state_dict(sick, tmp_path / "w.safetensors")
    (tmp_path / "use.py").write_text(LOADED)
    assert run([sys.executable, "use.py", "w.safetensors"], tmp_path) == "(2, 10)\n"


def test_what_is_taken_away_is_healthy(client: Client, sick: str) -> None:
    prescription = client.get(sick).diagnosis
    assert prescription is not None
    assert prescription.prescription is not None
    spec = client.prescription_spec(sick)
    assert spec == prescription.prescription.patched_spec
    weighted = {"model": {"kind": "spec", **spec, "weights": prescription.prescription.weights}}
    submitted = json.loads(SICK.read_text())["model"]
    patched = jsonpatch.apply_patch(submitted, client.prescription_patch(sick))
    for model in (spec, weighted, patched):
        assert client.analyze(model).diagnosis.verdict == "healthy"


def test_a_file_gets_its_own_names_back(client: Client, models: Path, tmp_path: Path) -> None:
    probe = {"inputs": [{"shape": [3, 32, 32]}]}
    analysis = client.analyze(models / "sick.pt", probe=probe)
    path = client.download_state_dict(analysis.id, tmp_path / "w.safetensors")
    with pytest.raises(NoPrescription, match="no spec to repair"):
        client.prescription_code(analysis.id)
    compare = (
        "import sys, torch, warnings\nwarnings.simplefilter('ignore')\n"
        "from safetensors.torch import load_file\n"
        "model = torch.jit.load(sys.argv[1])\n"
        "missing, added = model.load_state_dict(load_file(sys.argv[2]), strict=False)\n"
        "print(missing, all('_norm' in name for name in added))\n"
    )
    assert run([sys.executable, "-c", compare, models / "sick.pt", path], tmp_path) == "[] True\n"


def test_weights_go_with_their_analysis(client: Client, tmp_path: Path) -> None:
    analysis = client.analyze(SICK, probe={"seed": 7})
    assert analysis.diagnosis.prescription is not None
    client.download_state_dict(analysis.id, tmp_path / "w")
    client.delete(analysis.id)
    weights = analysis.diagnosis.prescription.weights
    spec = analysis.diagnosis.prescription.patched_spec
    assert spec is not None
    with pytest.raises(ArtifactNotFound):
        client.submit({"model": {"kind": "spec", **spec, "weights": weights}})


def test_a_healthy_model_says_why_there_is_nothing(client: Client) -> None:
    analysis = client.analyze(HEALTHY)
    with pytest.raises(NoPrescription, match="healthy as it stands"):
        client.prescription_spec(analysis.id)


def test_on_the_command_line(server: str, client: Client, sick: str, tmp_path: Path) -> None:
    environment = {**os.environ, "GRADDX_URL": server}

    def apply(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(GRADDX), "apply", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    address = client.address(sick)
    written = apply(address)
    assert (written.returncode, written.stderr) == (0, "")
    assert json.loads(written.stdout) == client.prescription_spec(sick)
    assert apply(sick, "--code", "-o", "repaired.py").returncode == 0
    assert apply(sick, "--weights", "-o", "w.safetensors").returncode == 0
    (tmp_path / "use.py").write_text(LOADED)
    assert run([sys.executable, "use.py", "w.safetensors"], tmp_path) == "(2, 10)\n"
    assert json.loads(apply(sick, "--patch").stdout) == client.prescription_patch(sick)
    for arguments, code, told in (
        ((sick, "--weights"), 2, "--output"),
        ((sick, "--code", "--patch"), 2, "one of"),
        (("none",), 3, "analysis_not_found"),
        ((client.analyze(HEALTHY).id,), 1, "healthy as it stands"),
    ):
        refused = apply(*arguments)
        assert (refused.returncode, refused.stdout) == (code, "")
        assert told in refused.stderr
