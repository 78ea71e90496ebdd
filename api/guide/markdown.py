"""One page of Markdown as HTML: headings with anchors as GitHub forms them, links and file names
that lead to other pages of the guide, tables that scroll."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from api.guide.contents import Page


@dataclass(frozen=True, slots=True)
class Heading:
    """Of a section."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Written:
    """A page's body."""

    html: Markup
    headings: tuple[Heading, ...]


class Unreachable(ValueError):
    """A link of a page leads to nothing in the guide."""


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub forms it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def write(text: str, page: Page, pages: Mapping[str, Page]) -> Written:
    """`text` is the Markdown of `page`; `pages` are those of the guide by their source.

    Raises Unreachable for a relative link that is no page of the guide."""
    # Only our own pages come here; even so raw HTML is shown, not passed on.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(re.sub(r"<!--.*?-->\n*", "", text, flags=re.S))
    headings = tuple(_anchored(tokens))
    for token in tokens:
        if token.children:
            token.children = [*_linked(token.children, page, pages)]
    html = markdown.renderer.render([*_boxed(tokens)], markdown.options, {})
    return Written(Markup(html), headings)


def _anchored(tokens: Sequence[Token]) -> Iterator[Heading]:
    """Gives every heading its anchor."""
    seen: Counter[str] = Counter()
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(one.content for one in inline.children or ())
            anchor = slug(text)
            seen[anchor] += 1
            if seen[anchor] > 1:
                anchor = f"{anchor}-{seen[anchor] - 1}"
            opening.attrSet("id", anchor)
            yield Heading(int(opening.tag[1]), text, anchor)


def _linked(tokens: Sequence[Token], page: Page, pages: Mapping[str, Page]) -> Iterator[Token]:
    """Links lead to pages of the guide, and so does `docs/ci.md`, in code marks alone."""
    depth = 0
    for token in tokens:
        depth += token.nesting if token.type.startswith("link_") else 0
        named = pages.get(token.content) if token.type == "code_inline" and not depth else None
        if token.type == "link_open":
            token.attrSet("href", _target(str(token.attrGet("href")), page, pages))
        if named is None or named == page:
            yield token
        else:
            yield Token("link_open", "a", 1, attrs={"href": _way(page, named)})
            yield token
            yield Token("link_close", "a", -1)


def _boxed(tokens: Sequence[Token]) -> Iterator[Token]:
    """A wide table scrolls in a box of its own, which the keyboard reaches."""
    box: dict[str, str | int | float] = {"class": "wide", "tabindex": 0, "role": "region"}
    for token in tokens:
        if token.type == "table_open":
            yield Token("box_open", "div", 1, attrs={**box, "aria-label": "Table"}, block=True)
        yield token
        if token.type == "table_close":
            yield Token("box_close", "div", -1, block=True)


def _target(link: str, page: Page, pages: Mapping[str, Page]) -> str:
    if re.match(r"[a-z]+:", link) or link.startswith("#"):
        return link
    path, hash_, anchor = link.partition("#")
    source = posixpath.normpath(posixpath.join(posixpath.dirname(page.source), path))
    if source not in pages:
        raise Unreachable(f"{page.source} links to {link}, which is no page of the guide")
    return f"{_way(page, pages[source])}{hash_}{anchor}"


def _way(page: Page, other: Page) -> str:
    return posixpath.relpath(other.name, posixpath.dirname(page.name) or ".")
