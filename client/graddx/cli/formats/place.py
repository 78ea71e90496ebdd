"""Where a finding is: the file of the model, and in a spec the line of the layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def told_path(model: Path) -> str:
    """The model's file as a CI system knows it: from the current folder, with slashes."""
    path = model.absolute()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def line_of(model: Path, layers: Sequence[str]) -> int:
    """The line, from 1, on which a JSON file names the first of these layers that it does; 1 for
    other files. Layers of a repeated group, as body.3.fc, go by the name that stands there: fc."""
    if model.suffix.lower() != ".json":
        return 1
    try:
        lines = model.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return 1
    for layer in layers:
        own = [part for part in layer.split(".") if not part.isdecimal()]
        for name in dict.fromkeys([layer, *own[-1:]]):
            quoted = json.dumps(name, ensure_ascii=False)
            at = next((i for i, line in enumerate(lines, 1) if quoted in line), None)
            if at is not None:
                return at
    return 1
