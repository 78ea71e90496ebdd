"""Hostile uploads against the real server: refused by its filter, and held by the seal alone.

After each the server answers, nothing was read or written, no process is left, and the next
analysis is right.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from torch import nn

from service.sandbox.seal import why_unsealable
from tests.security import hostile_models as hostile
from tests.security.servers import PROBE, Server, serving
from tests.unit.intake import test_archive, test_pickles
from tests.unit.intake.archives import archive, exported

UNSEALABLE = why_unsealable()
pytestmark = pytest.mark.skipif(UNSEALABLE is not None, reason=f"cannot seal here: {UNSEALABLE}")
SECRET = b"12345678"


@pytest.fixture(scope="module")
def good() -> bytes:
    torch.manual_seed(0)
    return hostile.scripted(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))


LIMITS = {
    "GRADDX_PROBE_SECONDS": "12",
    "GRADDX_PROBE_CPU_SECONDS": "3",
    "GRADDX_PROBE_MEMORY_MB": "768",
}


@pytest.fixture(scope="module")
def unfiltered(tmp_path_factory: pytest.TempPathFactory, good: bytes) -> Iterator[Server]:
    """Only the seal stands."""
    folder = tmp_path_factory.mktemp("unfiltered")
    with serving(folder, ["-m", "tests.security.unfiltered_server"], **LIMITS) as server:
        assert_right(server, good)
        yield server


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory, good: bytes) -> Iterator[Server]:
    """As people run it."""
    folder = tmp_path_factory.mktemp("filtered")
    with serving(folder, ["-m", "api"], **LIMITS) as server:
        assert_right(server, good)
        yield server


def assert_right(server: Server, good: bytes) -> None:
    """The next analysis is as it should be."""
    answer = server.post(good)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["model"]["parameters"]) == ("succeeded", 67)
    assert [layer["op"] for layer in body["diagnosis"]["layers"]] == ["linear", "linear"]


MODELS: dict[str, tuple[type[hostile.Hostile], str | None]] = {
    "reads a file": (hostile.ReadsAFile, "model_raised"),
    "reads a file in a task": (hostile.ReadsAFileInATask, "model_raised"),
    "writes through a mapping": (hostile.WritesThroughAMapping, "model_raised"),
    # It does not notice: the stream it writes to is just not open.
    "writes a file": (hostile.WritesAFile, None),
    "loops for ever": (hostile.LoopsForEver, "probe_timeout"),
    "loops in its threads": (hostile.LoopsInItsThreads, "probe_timeout"),
    "prints for ever": (hostile.PrintsForEver, "probe_timeout"),
    "asks for 64 GiB": (hostile.Asks64Gibibytes, "probe_out_of_memory"),
    "hoards": (hostile.Hoards, "probe_out_of_memory"),
    "doubles a text": (hostile.HoardsSlowly, "probe_out_of_memory|probe_timeout"),
    "reads past the end": (hostile.ReadsPastTheEnd, "probe_crashed"),
    "cuts the gradient": (hostile.CutsTheGradient, "not_differentiable"),
    "gives integers": (hostile.GivesIntegers, "not_differentiable"),
    "wants other sizes": (hostile.WantsOtherSizes, "model_raised"),
    "asserts": (hostile.Asserts, "model_raised"),
}
"""What each does, and the code of its failure behind the seal alone; None: it does not fail."""


@pytest.mark.parametrize("name", MODELS)
def test_the_seal_alone_holds(unfiltered: Server, good: bytes, tmp_path: Path, name: str) -> None:
    model, code = MODELS[name]
    victim = tmp_path / "victim"
    if name != "writes a file":
        victim.write_bytes(SECRET)
    with unfiltered.watched():
        answer = unfiltered.post(hostile.scripted(model(str(victim))))
        body = answer.json()
        assert body["status"] == ("succeeded" if code is None else "failed"), body
        assert code is None or body["error"]["code"] in code.split("|"), body["error"]
        assert answer.text.isprintable() or "\x1b" not in answer.text
        assert_right(unfiltered, good)
    assert [path.name for path in tmp_path.iterdir()] == (["victim"] if victim.exists() else [])
    assert victim.exists() == (name != "writes a file")
    assert not victim.exists() or victim.read_bytes() == SECRET


def test_many_tasks_end_somehow(unfiltered: Server, good: bytes) -> None:
    with unfiltered.watched():
        body = unfiltered.post(hostile.scripted(hostile.ForksForEver())).json()
        assert body["error"]["code"] in {"probe_timeout", "probe_out_of_memory", "probe_crashed"}
        assert_right(unfiltered, good)


def test_loading_alone_writes_nothing(unfiltered: Server, good: bytes, tmp_path: Path) -> None:
    loot = tmp_path / "loot"
    model = hostile.scripted(hostile.WritesWhileItIsLoaded(str(loot)))
    with unfiltered.watched():
        assert unfiltered.post(model).json()["status"] == "succeeded"
        assert_right(unfiltered, good)
    assert not loot.exists()


@pytest.mark.parametrize(
    "model",
    [
        hostile.ReadsAFile,
        hostile.ReadsAFileInATask,
        hostile.WritesThroughAMapping,
        hostile.WritesAFile,
        hostile.WritesWhileItIsLoaded,
        hostile.ReadsPastTheEnd,
    ],
)
def test_the_filter_says_what_it_found(
    filtered: Server, tmp_path: Path, model: Callable[[str], nn.Module]
) -> None:
    answer = filtered.post(hostile.scripted(model(str(tmp_path / "victim"))))
    assert (answer.status_code, answer.json()["code"]) == (422, "artifact_rejected")
    assert "the operator aten::" in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/model"
    assert list(tmp_path.iterdir()) == []


def torch_saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def slipping() -> bytes:
    return archive({"net/../../../../tmp/graddx-slipped": b"x"})


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda good: b"", "unsupported_artifact"),
    "text": (lambda good: b"import os\n" * 100, "unsupported_artifact"),
    "half of a model": (lambda good: good[: len(good) // 2], "unsupported_artifact"),
    "a flipped byte in the code": (
        lambda good: _flipped(good, _place_of_code(good)),
        "artifact_rejected",
    ),
    "a state dict": (
        lambda good: torch_saved(nn.Linear(2, 2).state_dict()),
        "unsupported_artifact",
    ),
    "a pickled module": (lambda good: torch_saved(nn.Linear(2, 2)), "unsupported_artifact"),
    "a pickle that runs code": (
        lambda good: pickle.dumps(test_pickles.RunsCode()),
        "unsupported_artifact",
    ),
    "a model whose pickle runs code": (
        lambda good: archive({"net/data.pkl": pickle.dumps(test_pickles.RunsCode(), 2)}),
        "artifact_rejected",
    ),
    "a zip bomb": (
        lambda good: archive(test_archive.BOMB, compress=True),
        "artifact_rejected",
    ),
    "a zip slip": (lambda good: slipping(), "artifact_rejected"),
    "members that overlap": (
        lambda good: _overlapping(),
        "artifact_rejected",
    ),
    "an exported program with a payload": (
        lambda good: exported(
            {"net/data/sample_inputs/model.pt": pickle.dumps(test_pickles.RunsCode())}
        ),
        "artifact_rejected",
    ),
}


def _place_of_code(content: bytes) -> int:
    """In the middle of the first member that is code."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        code = next(one for one in archive.infolist() if one.filename.endswith(".py"))
        following = min(
            one.header_offset
            for one in archive.infolist()
            if one.header_offset > code.header_offset
        )
    return following - code.compress_size // 2 - 16


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def _overlapping() -> bytes:
    """A model two of whose members share their bytes."""
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file, "a") as written:
        twin = written.getinfo("net/version")
        other = zipfile.ZipInfo("net/version2")
        for attribute in ("header_offset", "file_size", "compress_size", "CRC"):
            setattr(other, attribute, getattr(twin, attribute))
        written.filelist.append(other)
        written._didModify = True  # type: ignore[attr-defined]
    return file.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_at_once(filtered: Server, good: bytes, name: str) -> None:
    make, code = FILES[name]
    with filtered.watched():
        answer = filtered.post(make(good))
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        assert_right(filtered, good)
    assert not Path("/tmp/graddx-slipped").exists()
    assert not Path("/tmp/loot").exists()


@pytest.mark.parametrize("name", [name for name, (_, code) in FILES.items() if "rejected" in code])
def test_a_bad_file_fails_alone_behind_the_seal(unfiltered: Server, good: bytes, name: str) -> None:
    make, _ = FILES[name]
    with unfiltered.watched():
        answer = unfiltered.post(make(good))
        if answer.status_code == 422:  # what a program says of itself does not fit the request
            assert answer.json()["code"] in {"invalid_request", "shape_mismatch"}
        else:
            assert answer.json()["error"]["code"] == "model_raised", answer.text
        assert_right(unfiltered, good)
    assert not Path("/tmp/loot").exists()
    assert not Path("/tmp/graddx-slipped").exists()


def linear(**args: Any) -> dict[str, Any]:
    return {"input": {"shape": [4]}, "layers": [{"type": "Linear", "args": args}]}


def nested(levels: int, times: int) -> dict[str, Any]:
    layers: list[dict[str, Any]] = [{"type": "ReLU"}]
    for _ in range(levels):
        layers = [{"repeat": times, "layers": layers}]
    return {"input": {"shape": [4]}, "layers": layers}


SPECS: dict[str, Callable[[], bytes]] = {
    "a million layers": lambda: _spec(
        {"input": {"shape": [4]}, "layers": [{"type": "ReLU"}] * 500_000}
    ),
    "a million layers by repeat": lambda: _spec(nested(1, 1_000_000)),
    "nested repeat": lambda: _spec(nested(20, 10)),
    "deeply nested groups": lambda: _spec(nested(200, 1)),
    "a large integer": lambda: _spec(linear(out_features=10**9)),
    "a larger integer": lambda: _spec(linear(out_features=10**100)),
    "a large input": lambda: _spec({"input": {"shape": [10**9] * 3}, "layers": [{"type": "ReLU"}]}),
    "control characters in a name": lambda: _spec(
        {"input": {"shape": [4]}, "layers": [{"name": "a\x1b[31m\n", "type": "ReLU"}]}
    ),
    "deep JSON": lambda: b'{"model": ' + b"[" * 200_000,
    "a number of a million digits": lambda: b'{"model": ' + b"9" * 1_000_000 + b"}",
}


def _spec(spec: dict[str, Any]) -> bytes:
    import json

    return json.dumps({"model": {"kind": "spec", **spec}}).encode()


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_spec_is_refused_at_once(filtered: Server, good: bytes, name: str) -> None:
    with filtered.watched():
        answer = httpx2.post(
            f"{filtered.url}/v1/analyses?wait=30",
            content=SPECS[name](),
            headers={"content-type": "application/json"},
            timeout=60,
        )
        assert answer.status_code in (413, 422), answer.text[:500]
        assert answer.json()["code"] in {"invalid_request", "payload_too_large"}
        assert "\x1b" not in answer.text
        assert_right(filtered, good)


def test_weights_that_are_no_number_are_a_finding_not_a_failure(filtered: Server) -> None:
    body = filtered.post(hostile.scripted(hostile.HasNaNWeights())).json()
    assert (body["status"], body["diagnosis"]["verdict"]) == ("succeeded", "unhealthy")
    assert "nonfinite_values" in [finding["code"] for finding in body["diagnosis"]["findings"]]


def test_a_model_without_parameters_is_measured_by_its_inputs_gradient(filtered: Server) -> None:
    body = filtered.post(hostile.scripted(hostile.HasNoParameters()), PROBE).json()
    assert (body["status"], body["model"]["parameters"]) == ("succeeded", 0)
    assert "the gradient at its input is 0." in body["diagnosis"]["summary"]
