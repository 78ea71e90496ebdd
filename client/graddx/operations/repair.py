"""The prescription taken away. All raise NoPrescription, AnalysisUnfinished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graddx.calling import call
from graddx.errors import InvalidInput
from graddx.operations.paths import analysis_path
from graddx.reading import read, read_list
from graddx.server import Server
from graddx.steps import Send, Steps


def prescription_spec(server: Server, analysis_id: str) -> Steps[dict[str, Any]]:
    """The repaired spec, expanded: it can be analyzed as it is, or with `weights` the repaired
    weights. Raises NoPrescription, AnalysisUnfinished."""
    path = analysis_path(analysis_id, "prescription", "spec")
    return read((yield from call(server, Send("GET", path))), dict[str, Any])


def prescription_patch(server: Server, analysis_id: str) -> Steps[Sequence[dict[str, Any]]]:
    """RFC 6902 operations that repair the spec as it was submitted. Raises NoPrescription,
    AnalysisUnfinished."""
    path = analysis_path(analysis_id, "prescription", "spec")
    return read_list((yield from call(server, Send("GET", path, params={"format": "patch"}))))


def prescription_code(server: Server, analysis_id: str) -> Steps[str]:
    """The repaired model as PyTorch source: `class RepairedModel(nn.Module)`. Raises
    NoPrescription, AnalysisUnfinished."""
    path = analysis_path(analysis_id, "prescription", "code")
    answer = yield from call(server, Send("GET", path))
    return answer.text


def download_state_dict(
    server: Server, analysis_id: str, path: str | os.PathLike[str]
) -> Steps[Path]:
    """The repaired weights as a safetensors file at `path`, streamed; nothing is there unless
    all of it came. Raises InvalidInput when it cannot be written, NoPrescription,
    AnalysisUnfinished."""
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    try:
        where = analysis_path(analysis_id, "prescription", "state_dict")
        yield from call(server, Send("GET", where, into=part))
        return part.replace(target)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()
