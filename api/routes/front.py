"""/: the page that people land on, and what it loads."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from api.report.page import EXAMPLES, STATIC, front_page, front_policy

router = APIRouter(include_in_schema=False)

ASSETS = "/assets"
SAMPLES = "/examples"


def mount_assets(app: FastAPI) -> None:
    """The page's script and style sheet, and the examples it offers."""
    app.mount(ASSETS, StaticFiles(directory=STATIC), name="assets")
    app.mount(SAMPLES, StaticFiles(directory=EXAMPLES), name="examples")


@router.get("/")
def front() -> HTMLResponse:
    """What this is, a form to ask with, what was asked before."""
    return HTMLResponse(front_page(), headers={"Content-Security-Policy": front_policy()})
