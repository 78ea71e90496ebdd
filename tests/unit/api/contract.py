"""The contract as programs see it: /openapi.json without its words.

python -m tests.unit.api.contract > tests/unit/api/contract.json"""

from __future__ import annotations

import json
import sys
from typing import Any

from api.app import create_app
from service.config import Settings
from tests.unit.api.fake_engine import FakeEngine

WORDS = ("description", "summary", "title", "example", "examples", "tags")
"""What may be said better without anything being promised anew."""


def contract_of(document: dict[str, Any]) -> dict[str, Any]:
    """Paths and components without words; a field that is called like one of them stays."""
    parts = {name: document[name] for name in ("paths", "components")}
    stripped: dict[str, Any] = _without_words(parts)
    return stripped


def _without_words(part: Any, *, names: bool = False) -> Any:
    """`names`: the keys of this object are names that were given, not words of OpenAPI."""
    if isinstance(part, list):
        return [_without_words(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _without_words(value, names=not names and key == "properties")
        for key, value in part.items()
        if names or key not in WORDS
    }


def current() -> dict[str, Any]:
    """As the code is now."""
    return contract_of(create_app(FakeEngine(), Settings()).openapi())


if __name__ == "__main__":
    json.dump(current(), sys.stdout, indent=1, sort_keys=True)
