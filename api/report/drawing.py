"""Vega-Lite to pictures, in a process of its own: the library that draws is a whole JavaScript
engine, which holds Python's lock while it works and takes half a second to start."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import structlog
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

log = structlog.get_logger()

Form = Literal["svg", "png"]

PEN = Path(__file__).with_name("pen.py")
SECONDS = 20.0
"""Longest time for one call, waiting for its turn included; then the pictures are left out."""
KEPT = 96
"""Pictures that are remembered, some 40 KB each: a report is read more than once."""


class Drawer(Protocol):
    """Makes pictures."""

    async def draw(self, specs: Sequence[dict[str, Any]], form: Form) -> list[bytes | None]:
        """One per Vega-Lite specification; None where it could not be made."""

    async def close(self) -> None:
        """No more will be asked for."""


class ProcessDrawer:
    """Draws in one other process: started when it is first needed, asked by one call at a time,
    killed when it takes too long."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._pen: Process | None = None
        self._known: OrderedDict[tuple[Form, str], bytes] = OrderedDict()

    async def draw(self, specs: Sequence[dict[str, Any]], form: Form) -> list[bytes | None]:
        """See Drawer."""
        texts = [json.dumps(spec, sort_keys=True) for spec in specs]
        wanted = [text for text in dict.fromkeys(texts) if (form, text) not in self._known]
        drawn = await self._drawn(wanted, form) if wanted else []
        pictures = dict(zip(wanted, drawn, strict=True))
        return [
            self._remembered((form, text), pictures.get(text) or self._known.get((form, text)))
            for text in texts
        ]

    async def close(self) -> None:
        """See Drawer."""
        pen, self._pen = self._pen, None
        if pen is not None:
            if pen.returncode is None:
                pen.kill()
            with anyio.CancelScope(shield=True):
                await pen.aclose()

    async def _drawn(self, texts: list[str], form: Form) -> list[bytes | None]:
        question = json.dumps({"form": form, "specs": texts}).encode()
        try:
            with anyio.fail_after(SECONDS):
                async with self._turn:
                    answer = json.loads(await self._answered(question))
        except (TimeoutError, OSError, anyio.BrokenResourceError, anyio.IncompleteRead):
            log.exception("charts could not be drawn", charts=len(texts))
            return [None] * len(texts)
        return [None if one is None else base64.b64decode(one) for one in answer["pictures"]]

    async def _answered(self, question: bytes) -> bytes:
        """Of the process; one that has ended, as it does when idle, is replaced."""
        try:
            if self._pen is None or self._pen.returncode is not None:
                await self.close()
                command = [sys.executable, "-I", str(PEN)]
                self._pen = await anyio.open_process(command, stderr=subprocess.DEVNULL, env={})
            assert self._pen.stdin is not None
            assert self._pen.stdout is not None
            await self._pen.stdin.send(len(question).to_bytes(4, "big") + question)
            answer = BufferedByteReceiveStream(self._pen.stdout)
            length = int.from_bytes(await answer.receive_exactly(4), "big")
            return await answer.receive_exactly(length)
        except BaseException:
            # Whatever it still says would be taken for the next answer.
            await self.close()
            raise

    def _remembered(self, key: tuple[Form, str], picture: bytes | None) -> bytes | None:
        if picture is not None:
            self._known[key] = picture
            self._known.move_to_end(key)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return picture
