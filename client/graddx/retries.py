"""When a call is made again, and after how long.

| what happened                                | GET, PUT | POST, DELETE |
| -------------------------------------------- | -------- | ------------ |
| no connection: nothing was sent              | again    | again        |
| connection lost, no answer                   | again    | never        |
| 429, 503: rate_limited, queue_full           | again    | again        |
| 500, 502, 504 of a proxy, or of a server     | again    | never        |
| that is being stopped                        |          |              |
| any other answer                             | never    | never        |

POST makes an analysis each time. DELETE cancels first and deletes second, so a repetition would do
more than was asked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2

from graddx.errors import ApiError, Busy

REPEATABLE = ("GET", "PUT")
"""Methods that do the same however often they are called."""
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Failures before the first byte left."""
FOREIGN = ("http_500", "http_502", "http_504")
"""Codes of answers that graddx did not write and that may be better in a moment."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""Seconds before the first repetition, doubled each time up to the longest."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds; a server that asks for more is not waited for."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a call is."""

    times: int = 4
    """Repetitions after the first try; 4 are about 3 s of pauses."""

    def pauses(self) -> Iterator[float | None]:
        """Seconds to pause after each try; None after the last.

        Half of each pause is drawn at random, so that clients that failed together do not come
        back together."""
        for done in range(self.times):
            pause = min(FIRST_PAUSE * 2**done, LONGEST_PAUSE)
            yield pause * random.uniform(0.5, 1.0)
        yield None


def may_repeat(method: str, error: httpx2.TransportError) -> bool:
    """Whether a call that got no answer may be made again."""
    return isinstance(error, UNSENT) or method in REPEATABLE


def pause_asked(method: str, error: ApiError) -> float | None:
    """Least seconds to pause before asking again; None: do not ask again."""
    passing = method in REPEATABLE and error.code in FOREIGN
    if not (passing or isinstance(error, Busy)):
        return None
    asked = error.retry_after or 0.0
    return asked if asked <= LONGEST_RETRY_AFTER else None
