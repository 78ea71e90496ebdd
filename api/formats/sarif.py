"""SARIF 2.1.0 (OASIS): what code scanning and IDEs read.

A finding is a result; its rule is the detector. The file of the model is the location, its layers
are the logical locations. The fingerprint names code, file and layers and no number, so that the
same problem of the next run is the same alert."""

from __future__ import annotations

import hashlib
import json
from inspect import getdoc
from typing import Any
from urllib.parse import quote

from api import VERSION
from api.formats.told import clean, failure_of, model_path, told_layers
from api.links import docs_address
from service.diagnosis.detectors import ALL_DETECTORS
from service.domain.analysis import Analysis
from service.domain.findings import Diagnosis, Finding, Severity

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
FINGERPRINT = "graddx/v1"
_DETECTORS = {one.code: one for one in ALL_DETECTORS}


def sarif(analysis: Analysis, address: str, path: str | None = None) -> str:
    """One run: the results of a diagnosis, or the notification that there is none."""
    diagnosis = analysis.report.diagnosis if analysis.report else None
    results = _results(diagnosis, model_path(analysis, path)) if diagnosis else []
    run = {
        "tool": {
            "driver": {
                "name": "graddx",
                "version": VERSION,
                "rules": [
                    _rule(code, address) for code in dict.fromkeys(one["ruleId"] for one in results)
                ],
            }
        },
        "automationDetails": {"id": f"graddx/{model_path(analysis, path)}"},
        "invocations": [_invocation(analysis)],
        "results": results,
        "properties": _properties(analysis, diagnosis, address),
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def fingerprint(code: str, path: str, layers: tuple[str, ...]) -> str:
    """64 hexadecimal digits: the same for the same problem of the same layers."""
    return hashlib.sha256("\0".join((code, path, *layers)).encode()).hexdigest()


def _results(diagnosis: Diagnosis, path: str) -> list[dict[str, Any]]:
    told = [_result(finding, path) for finding in diagnosis.findings]
    for one in diagnosis.suppressed:
        reason = {"justification": clean(one.reason)} if one.reason else {}
        suppressions = [{"kind": "external", "status": "accepted", **reason}]
        told.append({**_result(one.finding, path), "suppressions": suppressions})
    return told


def _result(finding: Finding, path: str) -> dict[str, Any]:
    causes = "".join(f"\n- {cause}" for cause in finding.causes)
    return {
        "ruleId": finding.code,
        "level": LEVELS[finding.severity],
        "rank": round(100.0 * finding.confidence, 1),
        "message": {"text": clean(f"{finding.title}: {finding.detail}{causes}")},
        "locations": [_location(finding.layers, path)],
        "partialFingerprints": {FINGERPRINT: fingerprint(finding.code, path, finding.layers)},
        "properties": {"confidence": finding.confidence, "layers": told_layers(finding.layers)},
    }


def _location(layers: tuple[str, ...], path: str) -> dict[str, Any]:
    where: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(path)},
            "region": {"startLine": 1},
        }
    }
    logical = [
        {
            "name": clean(layer.rpartition(".")[2]),
            "fullyQualifiedName": clean(layer),
            "kind": "member",
        }
        for layer in layers
    ]
    return {**where, "logicalLocations": logical} if logical else where


def _uri(path: str) -> str:
    """A relative reference (RFC 3986)."""
    return quote(path.replace("\\", "/"))


def _rule(code: str, address: str) -> dict[str, Any]:
    detector = _DETECTORS.get(code)
    if detector is None:  # of a report that an older engine stored
        return {"id": code}
    docs = getdoc(type(detector)) or detector.title
    plain = " ".join(part for part in docs.splitlines() if part and not part.startswith("#"))
    return {
        "id": code,
        "name": "".join(word.capitalize() for word in code.split("_")),
        "shortDescription": {"text": detector.title},
        "helpUri": docs_address(address, code),
        "help": {"text": plain, "markdown": docs},
    }


def _invocation(analysis: Analysis) -> dict[str, Any]:
    times = {"startTimeUtc": analysis.started_at, "endTimeUtc": analysis.finished_at}
    told = {
        name: at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for name, at in times.items() if at is not None
    }
    if analysis.report is not None:
        return {"executionSuccessful": True, **told}
    failure = failure_of(analysis)
    notification = {
        "level": "error",
        "message": {"text": clean(f"{failure.title}: {failure.detail}")},
        "descriptor": {"id": failure.code},
    }
    return {
        "executionSuccessful": False,
        **told,
        "toolExecutionNotifications": [notification],
    }


def _properties(analysis: Analysis, diagnosis: Diagnosis | None, address: str) -> dict[str, Any]:
    facts = {"analysis": analysis.id, "address": address, "passed": analysis.passed}
    if diagnosis is None:
        return facts
    return facts | {"verdict": diagnosis.verdict, "summary": clean(diagnosis.summary)}
