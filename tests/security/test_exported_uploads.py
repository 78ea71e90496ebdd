"""Exported programs (.pt2) against the real server: measured behind the seal,
harmless when hostile."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from service.domain.probe_plan import ProbePlan
from service.probing.session import Session
from service.sandbox.seal import why_unsealable
from tests.probing.exported import ANY, Network, Recurrent, exported
from tests.security.servers import Server, serving

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")
QUICK: dict[str, Any] = {"batches": 2, "seeds": 1, "trial_steps": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("filtered"), ["-m", "api"]) as one:
        yield one


@pytest.fixture(scope="module")
def unfiltered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("unfiltered")
    with serving(folder, ["-m", "tests.security.unfiltered_server"]) as one:
        answered(one.post(network(), QUICK))  # its zygote is warm
        yield one


def network(dynamic: bool = True) -> bytes:
    torch.manual_seed(0)
    shapes = ({0: ANY},) if dynamic else None
    return exported(Network(), (torch.ones(3, 3, 8, 8),), shapes).getvalue()


def answered(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert body["status"] == "succeeded", body
    return body


def pointers(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [one["pointer"] for one in response.json()["errors"]]


def test_it_brings_its_inputs_and_is_measured_as_in_this_process(server: Server) -> None:
    content = network()
    body = answered(server.post(content, QUICK))
    assert body["model"]["format"] == "exported_program"
    assert [one["shape"] for one in body["probe"]["inputs"]] == [[3, 8, 8]]
    plan = ProbePlan(batches=2, seeds=1, trial_steps=0)
    here = Session.open(plan, None, io.BytesIO(content), model_format="exported_program").measure()
    told = body["diagnosis"]["model"]["loss_at_start"]
    assert told == pytest.approx(here.model.loss_at_start, rel=1e-5)
    layers = body["diagnosis"]["layers"]
    assert [one["name"] for one in layers] == [one.name for one in here.layers]
    gains = [one["gradient"]["gain"] for one in layers]
    assert gains == pytest.approx([one.gradient.gain for one in here.layers], rel=1e-4)


def test_the_whole_story_with_advice(server: Server) -> None:
    deep = torch.nn.Sequential(
        *(part for _ in range(12) for part in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())),
        torch.nn.Linear(16, 4),
    )
    content = exported(deep, (torch.ones(2, 16),), ({0: ANY},)).getvalue()
    body = answered(server.post(content, {"batches": 2, "trial_steps": 40}))
    codes = {one["code"] for one in body["diagnosis"]["findings"]}
    assert "vanishing_gradient" in codes
    assert any(
        one["effect"] and one["effect"]["verified"] for one in body["diagnosis"]["recommendations"]
    )


def test_a_fixed_batch_is_noted_and_another_one_refused(server: Server) -> None:
    body = answered(server.post(network(dynamic=False), QUICK))
    assert body["probe"]["batch_size"] == 3
    assert any(note.startswith("batch_size: ") for note in body["notes"])
    assert pointers(server.post(network(dynamic=False), {"batch_size": 8})) == ["/probe/batch_size"]


def test_inputs_that_do_not_fit_are_refused(server: Server) -> None:
    wrong = {"inputs": [{"shape": [3, 9, 9]}]}
    assert pointers(server.post(network(), wrong)) == ["/probe/inputs/0"]


def repacked(content: bytes, changed: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            own = next((c for end, c in changed.items() if name.endswith(end)), old.read(name))
            new.writestr(name, own)
    return made.getvalue()


def member(content: bytes, end: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read(next(n for n in archive.namelist() if n.endswith(end))))


class Touches:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def hostile(loot: Path) -> dict[str, tuple[bytes, bool]]:
    """Files, and whether the model runs all the same where the seal stands alone."""
    torch.manual_seed(0)
    good = exported(Recurrent(), (torch.ones(3, 6, dtype=torch.int64),), ({0: ANY},)).getvalue()
    payload = pickle.dumps(Touches(loot), 2)
    weights = member(good, "model_weights_config.json")
    weights["config"]["embedding.weight"]["use_pickle"] = True
    program = member(good, "models/model.json")
    sizes = json.dumps(program).replace(
        "Symbol('s", f"__import__('os').system('touch {loot}') or Symbol('s"
    )
    calls = json.loads(json.dumps(program))
    node = calls["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.hub.os.system"
    node["inputs"] = [{"name": "", "arg": {"as_string": f"touch {loot}"}, "kind": 1}]
    reads = json.loads(json.dumps(program))
    node = reads["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.ops.aten.from_file.default"
    node["inputs"] = [
        {"name": "filename", "arg": {"as_string": "/etc/passwd"}, "kind": 1},
        {"name": "shared", "arg": {"as_bool": False}, "kind": 1},
        {"name": "size", "arg": {"as_int": 8}, "kind": 1},
    ]
    return {
        "sample inputs": (repacked(good, {"sample_inputs/model.pt": payload}), True),
        "pickled weights": (
            repacked(
                good,
                {"weights_config.json": json.dumps(weights).encode(), "weights/weight_0": payload},
            ),
            False,
        ),
        "sizes": (repacked(good, {"models/model.json": sizes.encode()}), False),
        # It is called, and the seal lets it start no process; the model goes on.
        "a function": (repacked(good, {"models/model.json": json.dumps(calls).encode()}), True),
        "a file": (repacked(good, {"models/model.json": json.dumps(reads).encode()}), False),
    }


NAMES = ["sample inputs", "pickled weights", "sizes", "a function", "a file"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_programs_are_refused(server: Server, tmp_path: Path, name: str) -> None:
    loot = tmp_path / "loot"
    content, _ = hostile(loot)[name]
    answer = server.post(content, QUICK)
    assert (answer.status_code, answer.json()["code"]) == (422, "artifact_rejected"), answer.text
    assert not loot.exists()


@pytest.mark.parametrize("name", NAMES)
def test_and_harmless_without_the_filter(unfiltered: Server, tmp_path: Path, name: str) -> None:
    loot = tmp_path / "loot"
    content, works = hostile(loot)[name]
    with unfiltered.watched():
        answer = unfiltered.post(content, QUICK)
    assert answer.status_code in (200, 502), answer.text
    assert not loot.exists()
    assert (answer.json()["status"] == "succeeded") is works, answer.text
