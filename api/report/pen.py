"""The process that draws: `python -I pen.py`, asked on stdin, answering on stdout. It imports
nothing of graddx, has an empty environment, and ends when nobody asks any more.

A message is a length (4 bytes, big endian) and JSON: {"form": "svg" or "png", "specs": [Vega-Lite
as text]} and, back, {"pictures": [base64, or null where Vega refuses]}."""

from __future__ import annotations

import base64
import json
import select
import signal
import sys

import vl_convert

IDLE_SECONDS = 300.0
"""Without a question the process ends: it holds some 150 MB."""
PNG_SCALE = 2.0
"""Pixels per px, for sharp text."""


def main() -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which closes stdin
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    while select.select([asked], [], [], IDLE_SECONDS)[0]:
        length = asked.read(4)
        if len(length) < 4:
            return
        message = json.loads(asked.read(int.from_bytes(length, "big")))
        pictures = [_drawn(spec, message["form"]) for spec in message["specs"]]
        answer = json.dumps({"pictures": pictures}).encode()
        told.write(len(answer).to_bytes(4, "big") + answer)
        told.flush()


def _drawn(spec: str, form: str) -> str | None:
    """Nothing is fetched: the data are in the text, and no address is allowed."""
    try:
        if form == "png":
            picture = vl_convert.vegalite_to_png(spec, scale=PNG_SCALE, allowed_base_urls=[])
        else:
            picture = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]).encode()
    except ValueError:  # what Vega throws
        return None
    return base64.b64encode(picture).decode()


if __name__ == "__main__":
    main()
