"""What is being done, on stderr, while it is done; nothing when stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from graddx.results import Progress


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows the sentence that it is called with, until the end of the block."""
    if not console.is_terminal:
        yield lambda _sentence: None
        return
    with console.status("") as status:
        yield lambda sentence: status.update(escape(sentence))


def sending(name: str, done: int, total: int) -> str:
    """How much of a file is sent."""
    return f"sending {name} ({100 * done // max(total, 1)} %)"


def doing(now: Progress) -> str:
    """What the server does with an analysis."""
    if now.status == "queued":
        return f"queued, {now.queue_position} ahead" if now.queue_position else "queued"
    gone = f" ({now.percent} %)" if now.percent else ""
    return f"{now.status}: {now.stage}{gone}" if now.stage else now.status
