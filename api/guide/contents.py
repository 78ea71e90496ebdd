"""What the guide holds, in order: the links of docs/README.md, and what is in folders."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

CONTENTS = "docs/README.md"
"""The page that lists the others; it is the guide's first one."""
UNLISTED = "More"
"""Where a page of docs/ stands that the contents do not name."""
_LISTED = re.compile(r"^## (?P<part>.+)$|^\* \[(?P<title>[^\]]+)\]\((?P<link>[^)#]+)\)", re.M)


@dataclass(frozen=True, slots=True)
class Page:
    """One of the guide."""

    title: str
    """As the contents call it."""
    source: str
    """Path of the Markdown from the root, as docs/ci.md; a folder lists what is in it."""
    part: str
    """Heading of the contents that it stands under; empty for a page of a folder."""

    @property
    def name(self) -> str:
        """Path of the HTML below the guide."""
        path = Path(self.source)
        if self.source == CONTENTS:
            return "index.html"
        if path.name == "README.md":
            return f"{path.parent.name}.html"
        inside = path.relative_to("docs") if path.is_relative_to("docs") else Path(path.name)
        return str(inside.with_suffix(".html") if path.suffix else inside / "index.html").lower()


def pages(root: Path) -> tuple[Page, ...]:
    """All of them, the contents first. Raises FileNotFoundError for a page that is not there."""
    found, part = [Page("Contents", CONTENTS, "")], ""
    for match in _LISTED.finditer((root / CONTENTS).read_text(encoding="utf-8")):
        part = match["part"] or part
        if match["link"]:
            path = (root / CONTENTS).parent.joinpath(match["link"]).resolve(strict=True)
            source = path.relative_to(root.resolve())
            found.append(Page(match["title"], str(source), part))
            found += _inside(root, source)
    listed = {one.source for one in found}
    rest = [one for one in _inside(root, Path("docs")) if one.source not in listed]
    return (*found, *(replace(one, part=UNLISTED) for one in rest))


def text_of(root: Path, page: Page) -> str:
    """Its Markdown."""
    if (root / page.source).is_file():
        return (root / page.source).read_text(encoding="utf-8")
    folder = Path(page.source).name
    lines = [
        f"* [{one.title}]({folder}/{Path(one.source).name})"
        for one in _inside(root, Path(page.source))
    ]
    return "\n".join([f"# {page.title}", "", *lines, ""])


def _inside(root: Path, folder: Path) -> list[Page]:
    """The pages of a folder, by name; a file has none."""
    return [
        Page(_heading(path), str(folder / path.name), "")
        for path in sorted((root / folder).glob("*.md"))
    ]


def _heading(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
