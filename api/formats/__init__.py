"""One finished analysis in the forms that other programs and people read: one file each."""

from __future__ import annotations

from collections.abc import Callable

from api.formats.junit import junit
from api.formats.markdown import markdown
from api.formats.sarif import sarif
from service.domain.analysis import Analysis

SARIF = "application/sarif+json"
JUNIT = "application/junit+xml"
MARKDOWN = "text/markdown"

Form = Callable[[Analysis, str, str | None], str]
"""Of a final analysis, its address, and the path of the model's file where the caller told it."""

CONTENTS = {
    SARIF: {"schema": {"type": "object"}},
    JUNIT: {"schema": {"type": "string"}},
    MARKDOWN: {"schema": {"type": "string"}},
}
"""`content` of an answer in OpenAPI, by media type."""
FORMS: dict[str, Form] = {SARIF: sarif, JUNIT: junit, MARKDOWN: markdown}
"""Media type → how to write it."""
