"""graddx.toml: what a project always says to `graddx check`.

    url = "http://127.0.0.1:8000"
    fail_on = "warning"
    timeout = 120

    [labels]
    repo = "vision"

    [probe]
    inputs = [{shape = [3, 32, 32]}]

    [[ignore]]
    code = "poor_initialization"
    layers = "stem.*"
    reason = "loaded from a checkpoint later"

Options of the command line go before it. There is no API key in it: it is a file to commit."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec

from graddx.errors import InvalidInput

NAME = "graddx.toml"


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """A finding the project accepts; reported as ignored, with the reason."""

    code: str
    """Finding code."""
    layers: str = "*"
    """Shell-style pattern on layer names."""
    reason: str = ""
    """Why, in the project's words."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Keys of graddx.toml."""

    url: str | None = None
    """Address of the server."""
    fail_on: Literal["error", "warning", "never"] | None = None
    """Lowest severity that does not pass."""
    timeout: float | None = None
    """Seconds to wait for the diagnosis."""
    baseline: str | None = None
    """A label, as branch=main: the newest analysis that carries it is compared with."""
    allowed_changes: tuple[str, ...] | None = None
    """Kinds of recommendation the project can use."""
    labels: dict[str, str] = field(default_factory=dict)
    """Added to every analysis."""
    probe: dict[str, Any] = field(default_factory=dict)
    """As `probe` in a request."""
    ignore: tuple[IgnoreRule, ...] = ()
    """Findings the project accepts."""


def find_settings(folder: Path) -> Path | None:
    """The nearest graddx.toml from `folder` upwards."""
    candidates = (one / NAME for one in (folder, *folder.parents))
    return next((path for path in candidates if path.is_file()), None)


def read_settings(path: Path | None) -> Settings:
    """What `path` says. Raises InvalidInput naming the key that is unknown or wrong."""
    if path is None:
        return Settings()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{path}: not valid TOML: {error}") from error
    _refuse_unknown(path, document, Settings)
    rules = document.get("ignore")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        _refuse_unknown(path, rule, IgnoreRule, f"ignore[{index}].")
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        told = str(error).replace("$.", "").replace(" | null", "")
        raise InvalidInput(f"{path}: {told}") from error


def _refuse_unknown(path: Path, table: Any, kind: type, where: str = "") -> None:
    known = [one.name for one in fields(kind)]
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise InvalidInput(f"{path}: unknown key {where}{key}; {hint}")
