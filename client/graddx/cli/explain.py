"""What a finding, a recommendation or a layer type means, in the server's own words."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from graddx.catalog import Catalog, Initializer, LayerType
from graddx.errors import InvalidInput


def explained(catalog: Catalog, code: str) -> str:
    """All that the catalogue says of this code, kind or name. Raises InvalidInput for one that it
    does not know, with those that it may have been meant for."""
    told = [text for name, text in _entries(catalog) if name.lower() == code.lower()]
    if told:
        return "\n\n".join(told) + "\n"
    names = {name.lower(): name for name, _ in _entries(catalog)}
    near = [names[one] for one in get_close_matches(code.lower(), names)]
    hint = (
        f"; did you mean {' or '.join(near)}?" if near else "; `graddx explain` lists what there is"
    )
    raise InvalidInput(f"this server knows no {code!r}{hint}")


def listed(catalog: Catalog) -> str:
    """Every finding and recommendation, a line each."""
    findings = [f"  {one.code:28} {one.title}" for one in catalog.detectors]
    kinds = [
        f"  {one.kind:28} {', '.join(one.resolves) or 'good practice'}" for one in catalog.remedies
    ]
    return "\n".join(
        ["Findings", "", *findings, "", "Recommendations, and what for", "", *kinds, ""]
    )


def _entries(catalog: Catalog) -> Iterator[tuple[str, str]]:
    for detector in catalog.detectors:
        yield detector.code, f"{detector.code}: {detector.title}\n\n{detector.docs.strip()}"
    for remedy in catalog.remedies:
        resolves = f"Resolves {', '.join(remedy.resolves)}.\n\n" if remedy.resolves else ""
        yield remedy.kind, f"{remedy.kind}\n\n{resolves}{remedy.docs.strip()}"
    built: tuple[LayerType | Initializer, ...] = (*catalog.layer_types, *catalog.initializers)
    for part in built:
        arguments = ", ".join(
            one.name if one.required else f"[{one.name}]" for one in part.arguments
        )
        yield part.name, f"{part.name}({arguments})\n\n{part.summary}"
