"""What the forms look like, for /docs."""

from __future__ import annotations

from typing import Any

from api.formats import JUNIT, MARKDOWN, SARIF
from api.negotiation import HTML

_SARIF: dict[str, Any] = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "graddx", "rules": [{"id": "vanishing_gradient"}]}},
            "invocations": [{"executionSuccessful": True}],
            "results": [
                {
                    "ruleId": "vanishing_gradient",
                    "level": "error",
                    "message": {"text": "Gradients vanish: fc1 receives 3.1e-11 of the gradient."},
                    "locations": [
                        {
                            "physicalLocation": {"artifactLocation": {"uri": "models/net.json"}},
                            "logicalLocations": [{"fullyQualifiedName": "fc1", "kind": "member"}],
                        }
                    ],
                }
            ],
        }
    ],
}
_JUNIT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="graddx" tests="2" failures="1" errors="0" skipped="0" time="1.900">
  <testsuite name="graddx.models/net.json" tests="2" failures="1" errors="0" skipped="0">
    <testcase classname="graddx.models/net.json" name="vanishing_gradient" time="0.000">
      <failure type="error" message="Gradients vanish">fc1 receives 3.1e-11 of …</failure>
    </testcase>
    <testcase classname="graddx.models/net.json" name="dead_units" time="0.000" />
  </testsuite>
</testsuites>
"""
_MARKDOWN = """## ❌ models/net.json: unhealthy

Gradients vanish: fc1 receives 3.1e-11 of the gradient at fc20. Confidence 0.99; it does not pass.

### Findings

| severity | finding | layers | detail |
| --- | --- | --- | --- |
| error | Gradients vanish (`vanishing_gradient`) | fc1 | fc1 receives 3.1e-11 of … |
"""


def form_examples() -> dict[str, dict[str, Any]]:
    """`content` of an OpenAPI response, by media type."""
    text = {"type": "string"}
    return {
        SARIF: {"schema": {"type": "object"}, "example": _SARIF},
        JUNIT: {"schema": text, "example": _JUNIT},
        MARKDOWN: {"schema": text, "example": _MARKDOWN},
        HTML: {"schema": text},
    }
