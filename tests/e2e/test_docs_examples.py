"""/docs: every request example as it stands against a real server; its answers as they are now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx2
import pytest

from tests.e2e.answers import ANSWERS, recorded
from tests.e2e.serving import ROOT, serving

FILES = ROOT / "examples" / "files"


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server, timeout=120) as client:
        yield client


def bodies(client: httpx2.Client) -> dict[str, dict[str, Any]]:
    """Of `POST /v1/analyses`, by media type: the examples."""
    document = client.get("/openapi.json").json()
    content = document["paths"]["/v1/analyses"]["post"]["requestBody"]["content"]
    return {media_type: one["examples"] for media_type, one in content.items()}


def test_every_request_is_analysed_as_it_stands(client: httpx2.Client) -> None:
    examples = bodies(client)
    for name, example in examples["application/json"].items():
        for file in re.findall(r"examples/files/(\S+)", example["summary"]):
            client.put("/v1/artifacts", content=(FILES / file).read_bytes())
        answer = client.post("/v1/analyses?wait=100", json=example["value"])
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded"), name
    for name, example in examples["multipart/form-data"].items():
        parts = example["value"]
        named = {part: FILES / parts[part] for part in ("model", "data") if part in parts}
        answer = client.post(
            "/v1/analyses?wait=100",
            files={part: path.read_bytes() for part, path in named.items()},
            data={"request": json.dumps(parts["request"])},
        )
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded"), name


def test_answers_are_what_a_server_says_today(tmp_path: Path) -> None:
    """Their fields, not their numbers; `make answers` writes them anew. Asked of a server that
    nobody has told anything: its lists are answers, too."""
    with serving(tmp_path / "data") as server:
        now = recorded(server)
    assert now.keys() == {path.name for path in ANSWERS.iterdir()}
    for name, text in now.items():
        kept = (ANSWERS / name).read_text(encoding="utf-8")
        assert shape(name, text) == shape(name, kept), f"{name}: make answers"


def shape(name: str, text: str) -> set[str]:
    """What an answer is made of."""
    if name.endswith((".json", ".sarif")):
        return set(_fields(json.loads(text), ""))
    if name.endswith(".xml"):
        return {f"{one.tag} {sorted(one.keys())}" for one in ElementTree.fromstring(text).iter()}
    if name.endswith(".csv"):
        return set(text.splitlines()[0].split(","))
    if name == "metrics.txt":
        return set(re.findall(r"^# HELP (\w+)", text, re.M)[:8])
    if name == "events.txt":
        return set(re.findall(r"^(\w+):", text, re.M))
    return set(re.findall(r"^(?:#+ \w+|class \w+|from \w+)", text, re.M))


def _fields(value: Any, where: str) -> Iterator[str]:
    """Pointers of a document, whatever the places in its lists."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield f"{where}/{name}"
            yield from _fields(one, f"{where}/{name}")
    elif isinstance(value, list):
        for one in value:
            yield from _fields(one, f"{where}/-")
