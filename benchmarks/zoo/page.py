"""docs/zoo.md: what the visits showed."""

from __future__ import annotations

import platform
from statistics import median

import torch

from benchmarks.zoo.animals import ZOO
from benchmarks.zoo.forms import FORMS
from benchmarks.zoo.visit import STAGES, STEPS, Visit

INTRODUCTION = f"""\
# The healthy zoo

Networks that the field trains every day, small, at their usual initializations. Each is judged by
the real pipeline as an architecture spec and as TorchScript, traced and scripted, before and during
a training of {STEPS} steps on the 8×8 digits (Adam, 1e-3); a trained spec is sent with its weights
(`model.weights`). Whatever is told of them is a false alarm: an error, a verdict of unhealthy, and
every warning as well.
"""


def row(seen: Visit) -> str:
    """One line of the table."""
    return (
        f"| {seen.name} | {seen.form} | {seen.stage:.0%} | {seen.loss:.2f} | {seen.verdict} | "
        f"{seen.confidence:.2f} | {seen.decided_by} | {', '.join(seen.errors) or '–'} | "
        f"{', '.join(seen.warnings) or '–'} |"
    )


def table(visits: list[Visit]) -> str:
    """All visits."""
    head = "| network | form | trained | loss | verdict | confidence | by | errors | warnings |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|---|", *map(row, visits)])


def totals(visits: list[Visit]) -> str:
    """What the visits come to, by form and all together."""
    head = "| form | visits | unhealthy | at risk | with an error | warnings: median | most |"
    lines = [_total(form, [v for v in visits if v.form == form]) for form in FORMS]
    return "\n".join([head, "|---|---|---|---|---|---|---|", *lines, _total("all", visits)])


def _total(form: str, visits: list[Visit]) -> str:
    told = [len(seen.warnings) for seen in visits] or [0]
    counts = (
        len(visits),
        sum(seen.verdict == "unhealthy" for seen in visits),
        sum(seen.verdict == "at_risk" for seen in visits),
        sum(bool(seen.errors) for seen in visits),
    )
    numbers = " | ".join(map(str, counts))
    return f"| {form} | {numbers} | {median(told):g} | {max(told)} |"


def lacking() -> str:
    """What specs leave out."""
    lines = [f"* {name}: {animal.spec_lacks}" for name, animal in ZOO.items() if animal.spec_lacks]
    return "\n".join(lines)


def alarms(visits: list[Visit]) -> str:
    """Every finding in words, with its numbers."""
    lines = [
        f"* {seen.name}, {seen.form}, {seen.stage:.0%}: {detail}"
        for seen in visits
        for detail in seen.details
    ]
    return "\n".join(lines) or "None."


def page(visits: list[Visit]) -> str:
    """The whole page."""
    stages = ", ".join(f"{stage:.0%}" for stage in STAGES)
    return "\n".join(
        [
            INTRODUCTION,
            f"Written by `make zoo` with torch "
            f"{torch.__version__} on {platform.machine()}; stages {stages}.",
            "",
            totals(visits),
            "",
            "## What a spec cannot say",
            "",
            "Every member has a spec; in some of them something is left out:",
            "",
            lacking(),
            "",
            "## Alarms",
            "",
            alarms(visits),
            "",
            "## Visits",
            "",
            table(visits),
            "",
        ]
    )
