"""Between rows and the domain's nouns."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, TypeVar

import msgspec
from sqlalchemy import RowMapping

from service.domain.analysis import Analysis, Failure, Queue, Stage, Status
from service.domain.api_keys import ApiKey, Scope
from service.domain.measurements import LayerMeasurements
from service.domain.progress import Progress
from service.domain.report import Report
from service.domain.request import AnalysisRequest
from service.ports import Artifact
from service.storage.tables import NAME_LENGTH

_encode = msgspec.json.Encoder().encode
_request = msgspec.json.Decoder(AnalysisRequest)
_failure = msgspec.json.Decoder(Failure)
_report = msgspec.json.Decoder(Report)
_layer = msgspec.json.Decoder(LayerMeasurements)


def to_json(value: Any) -> str:
    """JSON text of a domain value; NaN and infinities become null."""
    return _encode(value).decode()


def analysis_values(analysis: Analysis) -> dict[str, Any]:
    """Columns of a new analysis."""
    return {
        "id": analysis.id,
        "owner": analysis.owner,
        "status": analysis.status.value,
        "created_at": analysis.created_at,
        "attempt": analysis.attempt,
        "queue": analysis.queue.value,
        "request_id": analysis.request_id,
        "model_format": analysis.model_format,
        "model_sha256": analysis.model_sha256,
        "request": to_json(replace(analysis.request, labels=dict(analysis.labels))),
    }


def label_values(analysis: Analysis) -> list[dict[str, str]]:
    """Rows of its labels."""
    return [
        {"analysis_id": analysis.id, "key": key, "value": value}
        for key, value in analysis.labels.items()
    ]


def report_values(report: Report) -> dict[str, Any]:
    """Columns of a succeeded analysis; its layers have rows of their own."""
    return {
        "verdict": report.diagnosis.verdict.value,
        "passed": report.passed,
        "report": to_json(replace(report, layers=())),
    }


def layer_values(analysis_id: str, report: Report) -> list[dict[str, Any]]:
    """Rows of its layers, in order."""
    return [
        {
            "analysis_id": analysis_id,
            "index": index,
            "name": index_name(layer.name),
            "statistics": to_json(layer),
        }
        for index, layer in enumerate(report.layers)
    ]


def index_name(name: str) -> str:
    """A layer's name as the index holds it: names come from models, PostgreSQL has no NUL."""
    return name.replace("\0", "\ufffd")[:NAME_LENGTH]


def analysis(row: RowMapping, report: Report | None) -> Analysis:
    """A row, with its place in the queue, as the domain sees it."""
    request = _request.decode(row["request"])
    return Analysis(
        id=row["id"],
        status=Status(row["status"]),
        created_at=row["created_at"],
        request=request,
        labels=request.labels,
        owner=row["owner"],
        cached=row["cached"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        attempt=row["attempt"],
        queue=Queue(row["queue"]),
        request_id=row["request_id"],
        stage=None if row["stage"] is None else Stage(row["stage"]),
        percent=row["percent"],
        model_format=row["model_format"],
        model_sha256=row["model_sha256"],
        verdict=row["verdict"],
        passed=row["passed"],
        error=_maybe(_failure, row["error"]),
        report=report,
        queue_position=row["queue_position"],
    )


NO_PROGRESS: dict[str, None] = {"stage": None, "percent": None}
"""Columns of an analysis that nobody works on."""


def progress_values(progress: Progress) -> dict[str, Any]:
    """Columns of one that somebody works on."""
    return {"stage": progress.stage.value, "percent": progress.percent}


def report(text: str | None, layers: tuple[LayerMeasurements, ...]) -> Report | None:
    """A stored report, its layers put back."""
    found = _maybe(_report, text)
    return None if found is None else replace(found, layers=layers)


def layer(statistics: str) -> LayerMeasurements:
    """One layer's statistics."""
    return _layer.decode(statistics)


def artifact_values(artifact: Artifact) -> dict[str, Any]:
    """Columns of a stored file but its owner."""
    return {**asdict(artifact), "used_at": artifact.created_at}


def artifact(row: RowMapping) -> Artifact:
    """A stored file's facts."""
    return Artifact(row["id"], row["size"], row["format"], row["created_at"], row["upload"])


def api_key_values(key: ApiKey) -> dict[str, Any]:
    """Columns of an API key."""
    return {**asdict(key), "scopes": " ".join(sorted(key.scopes))}


def api_key(row: RowMapping) -> ApiKey:
    """An API key as the domain sees it."""
    scopes = frozenset(map(Scope, row["scopes"].split()))
    return ApiKey(**{**row, "scopes": scopes})


_Value = TypeVar("_Value")


def _maybe(decoder: msgspec.json.Decoder[_Value], text: str | None) -> _Value | None:
    return None if text is None else decoder.decode(text)
