"""/guide: the docs as pages, where `make docs` has built them."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

router = APIRouter(include_in_schema=False)

GUIDE = "/guide"
SITE = Path(__file__).parents[2] / "site"
"""What `api.guide.build` makes, next to `api`."""
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Pages with styles of this server: no script, no other address."""
MISSING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title} – graddx</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/assets/graddx.css"></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""
NOT_BUILT = MISSING.format(
    title="The guide is not built yet",
    text="Run <code>make docs</code> in the server's folder, then load this page again. "
    'Until then: the same pages as Markdown in <code>docs/</code>, and <a href="/docs">every call'
    "</a>.",
)
NO_SUCH_PAGE = MISSING.format(
    title="No such page", text=f'The guide has its contents at <a href="{GUIDE}/">{GUIDE}/</a>.'
)


def mount(app: FastAPI) -> None:
    """Serve the guide that is in SITE, or will be."""
    app.mount(GUIDE, _Built(directory=SITE, html=True, check_dir=False), name="guide")


@router.get(GUIDE)
def guide() -> RedirectResponse:
    """The pages' links are relative: their folder ends with a slash."""
    return RedirectResponse(f"{GUIDE}/")


class _Built(StaticFiles):
    async def check_config(self) -> None:
        """The folder may come while the server runs."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A page, or one that says why there is none."""
        try:
            answer = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404:
                raise
            built = Path(str(self.directory), "index.html").exists()
            answer = HTMLResponse(NO_SUCH_PAGE if built else NOT_BUILT, 404)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer
