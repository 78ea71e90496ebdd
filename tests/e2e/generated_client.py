"""A client generated from /openapi.json, at work: `python generated_client.py ADDRESS FILES`.

In a process of its own: what it imports is made by the test, and stands on packages of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from graddx_api import Client  # type: ignore[import-not-found]
from graddx_api import models as m
from graddx_api.api.analyses import (  # type: ignore[import-not-found]
    list_analyses,
    list_layers,
    read_analysis,
    remove_analysis,
    submit_analysis,
)
from graddx_api.api.artifacts import put_artifact  # type: ignore[import-not-found]
from graddx_api.api.catalog import catalog  # type: ignore[import-not-found]
from graddx_api.api.formats import read_junit  # type: ignore[import-not-found]
from graddx_api.api.history import read_layer_history  # type: ignore[import-not-found]
from graddx_api.api.operations import ready  # type: ignore[import-not-found]
from graddx_api.types import File  # type: ignore[import-not-found]

SICK = {"kind": "spec", "input": {"shape": [32]}, "layers": [
    {"name": "body", "repeat": 20, "layers": [
        {"name": "fc", "type": "Linear", "args": {"out_features": 32}}, {"type": "Sigmoid"}]},
    {"name": "head", "type": "Linear", "args": {"out_features": 10}}]}  # fmt: skip


def request(model: dict[str, Any], **more: Any) -> Any:
    """A typed request."""
    return m.AnalysisIn.from_dict({"model": model, "labels": {"by": "generated"}, **more})


def a_spec(client: Any) -> None:
    """Submit without waiting, wait, read the typed diagnosis."""
    answer = submit_analysis.sync_detailed(client=client, body=request(SICK, fresh=True), wait=0.0)
    assert answer.status_code == 202
    assert isinstance(answer.parsed, m.AnalysisOut)
    done = read_analysis.sync(answer.parsed.id, client=client, wait=100.0)
    assert done.status == m.AnalysisOutStatus.SUCCEEDED
    finding = done.diagnosis.findings[0]
    assert (finding.code, finding.severity) == ("vanishing_gradient", "error")
    assert done.diagnosis.prescription.verdict_after == "healthy"
    assert done.diagnosis.layers[0].gradient.gain < 0.5
    assert done.created_at < done.finished_at
    layers = list_layers.sync(done.id, client=client)
    assert [one.name for one in layers.layers][-1] == "head"
    (head,) = list_analyses.sync(
        client=client, label=["by:generated"], verdict=m.Verdict.UNHEALTHY
    ).items
    assert head.id == done.id
    (point,) = read_layer_history.sync(
        client=client, layer="head", statistic="gradient.gain", label=["by:generated"]
    ).items
    assert point.low <= point.value <= point.high
    assert b"<testsuites" in read_junit.sync(done.id, client=client)
    assert remove_analysis.sync_detailed(done.id, client=client).status_code == 204


def files(client: Any, folder: Path) -> None:
    """A file as the body, in a form, and stored before."""
    with (folder / "net.pt").open("rb") as file:
        stored = put_artifact.sync(client=client, body=File(payload=file))
    assert (stored.format_, len(stored.id)) == ("torchscript", 71)
    probe = {"inputs": [{"shape": [8]}]}
    by_id = request({"kind": "artifact", "id": stored.id}, probe=probe)
    assert submit_analysis.sync(client=client, body=by_id, wait=100.0).passed is True
    with (folder / "net.pt").open("rb") as model, (folder / "samples.npz").open("rb") as data:
        form = m.SubmitAnalysisFilesBody(
            model=File(payload=model, file_name="net.pt"),
            data=File(payload=data, file_name="samples.npz"),
            request=m.AnalysisOptions.from_dict({"labels": {"by": "form"}}),
        )
        sent = submit_analysis.sync(client=client, body=form, wait=100.0)
    assert (sent.status, sent.labels["by"]) == (m.AnalysisOutStatus.SUCCEEDED, "form")


def problems(client: Any) -> None:
    """Typed, too."""
    wrong = {"kind": "spec", "input": {"shape": [4]}, "layers": [{"type": "Liner"}]}
    told = submit_analysis.sync(client=client, body=request(wrong))
    assert isinstance(told, m.Problem)
    assert (told.status, told.code) == (422, "unknown_layer_type")
    assert told.errors[0].pointer == "/model/layers/0/type"
    shut = submit_analysis.sync(client=client, body=request(SICK), gate=True)
    assert isinstance(shut, m.GateFailed)
    assert (shut.code, shut.verdict) == ("gate_failed", "unhealthy")
    gone = read_analysis.sync("01a1f968-dee0-73ba-aa23-b4ba0078eb83", client=client)
    assert (gone.status, gone.code) == (404, "analysis_not_found")


def main(address: str, folder: Path) -> None:
    """Everything, one after the other."""
    with Client(base_url=address, timeout=None, raise_on_unexpected_status=True) as client:
        assert ready.sync(client=client).ready is True
        a_spec(client)
        files(client, folder)
        problems(client)
        known = catalog.sync(client=client)
        assert "Linear" in {one.name for one in known.layer_types}
    json.dump({"layer_types": len(known.layer_types)}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
