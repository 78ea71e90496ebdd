"""One repair taken away: the repaired model in one of its forms, to a file or to stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from graddx.cli.check import result_stream
from graddx.client import Client
from graddx.errors import InvalidInput

Part = Literal["spec", "patch", "code", "weights"]


def chosen(flags: Mapping[Part, bool]) -> Part:
    """The one part that was asked for; none is the spec. Raises InvalidInput."""
    asked = [part for part, given in flags.items() if given]
    if len(asked) > 1:
        raise InvalidInput(f"one of --{' and --'.join(asked)}, not both")
    return asked[0] if asked else "spec"


def id_of(text: str) -> str:
    """The id of an analysis, also out of the address that `graddx check` prints."""
    return text.rstrip("/").rpartition("/")[2]


def take(client: Client, analysis_id: str, part: Part, output: Path | None) -> None:
    """Write the part. Raises GraddxError; InvalidInput when it cannot be written."""
    if part == "weights":
        if output is None:
            raise InvalidInput("--weights needs a file: --output FILE")
        client.download_state_dict(analysis_id, output)
        return
    text = _text(client, analysis_id, part)
    with result_stream(output) as out:
        out.write(text)


def _text(client: Client, analysis_id: str, part: Part) -> str:
    if part == "code":
        return client.prescription_code(analysis_id)
    get = client.prescription_patch if part == "patch" else client.prescription_spec
    return json.dumps(get(analysis_id), indent=2, ensure_ascii=False) + "\n"
