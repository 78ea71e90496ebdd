"""Every page of the guide into one folder that needs nothing else: no script, no network."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from api import VERSION
from api.guide.contents import Page, pages, text_of
from api.guide.markdown import write

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
"""Where `make docs` puts them and `/guide` looks for them."""
TEMPLATES = Path(__file__).parent / "templates"
STATIC = ROOT / "api" / "static"
ASSETS = ("graddx.css", "guide.css", "icon.svg")


def build(root: Path, site: Path) -> int:
    """The docs of `root` as HTML in `site`, which is replaced as a whole; the number of pages.

    Raises Unreachable or FileNotFoundError where a page leads to nothing."""
    every = pages(root)
    by_source = {one.source: one for one in every}
    template = _template()
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.parent, prefix=f".{site.name}-") as made:
        folder = Path(made) / "site"
        for page in every:
            target = folder / page.name
            target.parent.mkdir(parents=True, exist_ok=True)
            html = template.render(
                page=page,
                body=write(text_of(root, page), page, by_source),
                parts=_parts(every),
                up="../" * page.name.count("/"),
                version=VERSION,
            )
            target.write_text(html, encoding="utf-8")
        for name in ASSETS:
            shutil.copy(STATIC / name, folder / name)
        # A server that reads meanwhile finds the old pages or the new ones.
        if site.exists():
            site.rename(Path(made) / "old")
        folder.rename(site)
    return len(every)


def _parts(every: tuple[Page, ...]) -> dict[str, list[Page]]:
    """Of the contents, with their pages."""
    parts: dict[str, list[Page]] = {}
    for page in every:
        if page.part:
            parts.setdefault(page.part, []).append(page)
    return parts


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html")
