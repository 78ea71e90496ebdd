"""What is being done, on stderr, while it is done; nothing when stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from graddx.results import Analysis


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows the sentence that it is called with, until the end of the block."""
    if not console.is_terminal:
        yield lambda _sentence: None
        return
    with console.status("") as status:
        yield lambda sentence: status.update(escape(sentence))


def doing(analysis: Analysis) -> str:
    """What the server does with an analysis."""
    if analysis.status == "queued":
        ahead = analysis.queue_position
        return f"queued, {ahead} ahead" if ahead else "queued"
    return f"{analysis.status}: {analysis.stage}" if analysis.stage else analysis.status
