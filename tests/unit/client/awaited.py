"""`AsyncClient` behind the face of `Client`, so that the same tests run through both."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any

from anyio.from_thread import BlockingPortal

from graddx import AsyncClient


class Awaited:
    """Every method awaited in the portal's event loop."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def method(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            if isinstance(result, AsyncGenerator):
                return self._each(result)
            return self._portal.call(_result, result) if inspect.iscoroutine(result) else result

        return method

    def _each(self, items: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._portal.call(items.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self._portal.call(items.aclose)


async def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine
