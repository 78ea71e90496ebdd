"""What /docs shows as answers: those of a real server, kept in examples/answers/.

`make answers` asks a server of its own and writes them. Lists are cut to their first elements, and
ids, addresses and names are always the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.events import EVENT_STREAM
from api.formats import JUNIT, MARKDOWN, SARIF
from api.negotiation import CSV, JSON

ANSWERS = Path(__file__).parent.parent / "examples" / "answers"

_FINAL = {
    JSON: ("analysis.json", "failed.json"),
    SARIF: ("findings.sarif",),
    JUNIT: ("junit.xml",),
    MARKDOWN: ("summary.md",),
}
SHOWN: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "submit_analysis": {"200": _FINAL, "202": {JSON: ("under_way.json",)}},
    "read_analysis": {"200": _FINAL, "202": {JSON: ("under_way.json",)}},
    "list_analyses": {"200": {JSON: ("analyses.json",)}},
    "remove_analysis": {"202": {JSON: ("cancelled.json",)}},
    "list_layers": {"200": {JSON: ("layers.json",), CSV: ("layers.csv",)}},
    "follow_analysis": {"200": {EVENT_STREAM: ("events.txt",)}},
    "read_sarif": {"200": {SARIF: ("findings.sarif",)}},
    "read_junit": {"200": {JUNIT: ("junit.xml",)}},
    "compare_analyses": {"200": {JSON: ("comparison.json",)}},
    "read_layer_history": {"200": {JSON: ("history.json",)}},
    "read_repaired_spec": {
        "200": {JSON: ("repaired_spec.json",), "application/json-patch+json": ("patch.json",)}
    },
    "read_repaired_code": {"200": {"text/x-python": ("repaired_code.txt",)}},
    "put_artifact": {"200": {JSON: ("artifact.json",)}, "201": {JSON: ("artifact.json",)}},
    "read_artifact": {"200": {JSON: ("artifact.json",)}},
    "catalog": {"200": {JSON: ("catalog.json",)}},
    "live": {"200": {JSON: ("live.json",)}},
    "ready": {"200": {JSON: ("ready.json",)}, "503": {JSON: ("not_ready.json",)}},
    "metrics": {"200": {"text/plain": ("metrics.txt",)}},
}
"""Operation → status → media type → files."""


def show_answers(document: dict[str, Any]) -> None:
    """Puts the answers into an OpenAPI document."""
    for path in document["paths"].values():
        for operation in path.values():
            for status, contents in SHOWN.get(operation["operationId"], {}).items():
                for media_type, content in operation["responses"][status]["content"].items():
                    names = contents.get(media_type.partition(";")[0])
                    if names:
                        content["examples"] = {Path(name).stem: _example(name) for name in names}


def _example(name: str) -> dict[str, Any]:
    text = (ANSWERS / name).read_text(encoding="utf-8")
    value = json.loads(text) if name.endswith((".json", ".sarif")) else text
    return {"summary": Path(name).stem.replace("_", " "), "value": value}
