"""What a real server answers, as examples/answers/ keeps it for /docs.

    python -m tests.e2e.answers

asks a server of its own and writes the files. Lists are cut, and what is another at every run (ids,
addresses, names of processes) is made the same."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.serving import ROOT, serving

ANSWERS = ROOT / "examples" / "answers"
SICK: dict[str, Any] = json.loads((ROOT / "examples" / "vanishing_sigmoid_mlp.json").read_text())
NET = (ROOT / "examples" / "files" / "net.pt").read_bytes()
LABELS = {"branch": "main", "commit": "0123abc"}
MOST, KEPT = 4, 3
"""A longer list is cut to so many elements."""
LINES = {"layers.csv": KEPT + 1, "metrics.txt": 60}
"""Kept of a long text."""
IDS = ("01a1f968-dee0-73ba-aa23-b4ba0078eb83", "01a1f96a-71c2-7d05-9a3b-5b0f6f6a2d1e",
       "01a1f96b-0c3e-7a41-8f57-2c9d44e0b6a7", "01a1f96c-93d0-7e12-b6a8-6a1f0c5d7e93")  # fmt: skip
"""What the analyses are called, in the order in which they are made."""


def recorded(server: str) -> dict[str, str]:
    """The answers by the names of their files."""
    with httpx2.Client(base_url=server, timeout=120) as client:
        return _Recorder(client, server).all()


class _Recorder:
    def __init__(self, client: httpx2.Client, server: str) -> None:
        self.client = client
        self.server = server
        self.ids: list[str] = []
        self.told: dict[str, str] = {}

    def all(self) -> dict[str, str]:
        self._of_a_sick_model()
        self._of_both()
        self._of_a_failure()
        self._of_the_server()
        return {name: self._same(text) for name, text in self.told.items()}

    def _of_a_sick_model(self) -> None:
        first = self._post(SICK | {"labels": LABELS, "fresh": True}, wait=0)
        self._keep("under_way.json", first)
        at = f"/v1/analyses/{self.ids[0]}"
        events = self._get(f"{at}/events").text.strip().split("\n\n")
        self.told["events.txt"] = "\n\n".join([events[0], events[-1]]) + "\n\n"
        for name, path in (
            ("analysis.json", at),
            ("layers.json", f"{at}/layers"),
            ("layers.csv", f"{at}/layers?format=csv"),
            ("findings.sarif", f"{at}/sarif?path=models/net.json"),
            ("junit.xml", f"{at}/junit?path=models/net.json"),
            ("repaired_spec.json", f"{at}/prescription/spec"),
            ("patch.json", f"{at}/prescription/spec?format=patch"),
            ("repaired_code.txt", f"{at}/prescription/code"),
        ):
            self._keep(name, self._get(path))
        said = self._get(f"{at}?path=models/net.json", Accept="text/markdown")
        self._keep("summary.md", said)

    def _of_both(self) -> None:
        """The sick model and what was prescribed."""
        repaired = self._get(f"/v1/analyses/{self.ids[0]}/prescription/spec").json()
        model = {"kind": "spec", **repaired}
        self._post({"model": model, "labels": LABELS | {"commit": "4567def"}}, wait=120)
        self._keep("comparison.json", self._get("/v1/analyses/{}/compare/{}".format(*self.ids)))
        self._keep(
            "history.json", self._get("/v1/layers/history?layer=head&statistic=gradient.norm")
        )
        self._keep("analyses.json", self._get("/v1/analyses?label=branch:main"))

    def _of_a_failure(self) -> None:
        stored = self.client.put("/v1/artifacts", content=NET)
        self._keep("artifact.json", stored)
        model = {"kind": "artifact", "id": stored.json()["id"]}
        wrong = {"model": model, "probe": {"inputs": [{"shape": [5]}]}}
        self._keep("failed.json", self._post(wrong, wait=60))
        self._post(SICK | {"fresh": True}, wait=0)
        cancelled = self.client.delete(f"/v1/analyses/{self.ids[-1]}")
        assert cancelled.status_code == 202
        self._keep("cancelled.json", cancelled)

    def _of_the_server(self) -> None:
        for name, path in (
            ("catalog.json", "/v1/catalog"),
            ("live.json", "/livez"),
            ("ready.json", "/readyz"),
            ("metrics.txt", "/metrics"),
        ):
            self._keep(name, self._get(path))
        # Nothing is broken here: what it says when its workers are gone.
        self.told["not_ready.json"] = (
            self.told["ready.json"]
            .replace("true", "false", 1)
            .replace('"workers": true', '"workers": false')
        )

    def _post(self, body: dict[str, Any], *, wait: int) -> httpx2.Response:
        answer = self.client.post(f"/v1/analyses?wait={wait}", json=body)
        assert answer.status_code == (200 if wait else 202), answer.text
        self.ids.append(answer.json()["id"])
        return answer

    def _get(self, path: str, **headers: str) -> httpx2.Response:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    def _keep(self, name: str, answer: httpx2.Response) -> None:
        if name.endswith((".json", ".sarif")):
            short = _cut(answer.json())
            self.told[name] = json.dumps(short, indent=1, ensure_ascii=False) + "\n"
        else:
            lines = answer.text.splitlines(keepends=True)
            self.told[name] = "".join(lines[: LINES.get(name)])

    def _same(self, text: str) -> str:
        for real, told in zip(self.ids, IDS, strict=True):
            text = text.replace(real, told)
        text = text.replace(self.server, "http://127.0.0.1:8000")
        return re.sub(r'worker="[^"]*"', 'worker="host:1"', text)


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _cut(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_cut(one) for one in (value[:KEPT] if len(value) > MOST else value)]
    return value


def main() -> None:
    """Write them all."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "data") as server:
        answers = recorded(server)
    ANSWERS.mkdir(exist_ok=True)
    for name, text in answers.items():
        (ANSWERS / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(answers)} answers in {ANSWERS.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
