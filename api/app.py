"""The application: routes, errors and middleware around an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI
from fastapi.routing import APIRoute

from api import VERSION, error_handlers
from api.doorkeeper import Doorkeeper
from api.metrics import expose_metrics
from api.middleware import BodyLimit, SameOrigin, SecurityHeaders, Unexpected
from api.openapi import describe
from api.rate_limits import RateLimits
from api.report.drawing import ProcessDrawer
from api.routes import (
    analyses,
    artifacts,
    catalog,
    compare,
    docs,
    events,
    formats,
    front,
    guide,
    health,
    history,
    prescription,
    report,
)
from service.config import Settings
from service.use_cases import Engine

ROUTES = (
    analyses,
    events,
    report,
    formats,
    compare,
    history,
    prescription,
    artifacts,
    catalog,
    health,
    front,
    docs,
    guide,
)
"""In the order of /docs."""
UPLOADS = 16
"""Files that are stored at the same time; one more waits."""

DESCRIPTION = """Will this PyTorch model train as it stands, and if not, what would make it?

`POST /v1/analyses` with an architecture or a model file; with `?gate=true` the HTTP status is the
answer. Errors are `application/problem+json` (RFC 9457) with a stable `code`."""


class _Described(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document behind /openapi.json and /docs."""
        return describe(self)


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """The front door of `engine`."""
    app = _Described(
        title="graddx",
        version=VERSION,
        summary="Diagnosis of vanishing, exploding and otherwise sick gradients",
        description=DESCRIPTION,
        generate_unique_id_function=_operation_id,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.engine = engine
    app.state.settings = settings
    app.state.uploads = CapacityLimiter(UPLOADS)
    app.state.drawer = ProcessDrawer()
    for routes in ROUTES:
        app.include_router(routes.router)
    docs.mount_assets(app)
    front.mount_assets(app)
    guide.mount(app)
    error_handlers.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit=settings.max_upload_mb << 20)
    app.add_middleware(Doorkeeper, engine=engine, limits=RateLimits(settings.rate_limit))
    app.add_middleware(SameOrigin)
    app.add_middleware(Unexpected)
    expose_metrics(app, engine)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(CorrelationIdMiddleware)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.drawer.close()


def _operation_id(route: APIRoute) -> str:
    """The function's own name: unique, and what generated clients call it."""
    return route.name
