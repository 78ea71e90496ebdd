"""/docs: Swagger UI from this server alone, so that it works without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

ASSETS = "/docs/assets"
POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
"""Scripts of this server and the page's own one, by hash; Swagger UI sets styles inline."""


def mount_assets(app: FastAPI) -> None:
    """Swagger UI's script and style sheet, out of the package fastapi-offline."""
    folder = files("fastapi_offline") / "static"
    app.mount(ASSETS, StaticFiles(directory=str(folder)), name="docs_assets")


@router.get("/docs")
def docs(request: Request) -> Response:
    """Every call, to read and to try."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{request.app.title} API",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},
    )
    html = bytes(page.body).decode()
    return HTMLResponse(html, headers={"Content-Security-Policy": _policy(html)})


def _policy(html: str) -> str:
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = hashlib.sha256(script[1].encode() if script else b"").digest()
    return POLICY.format(digest=base64.b64encode(digest).decode())
