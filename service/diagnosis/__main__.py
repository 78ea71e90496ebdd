"""Print the page on detectors: `python -m service.diagnosis > docs/detectors.md`."""

from __future__ import annotations

import inspect
import sys

from service.diagnosis import ALL_DETECTORS
from service.diagnosis.detector import Detector

INTRODUCTION = """\
# Detectors

What graddx looks for, in the order in which findings of equal weight are told: causes before their
consequences. A finding has a severity (error: it will not train; warning: it may hurt; info: good
to know) and, apart from it, a confidence: the probability that the finding is true. The thresholds
and where each comes from stand in `service/diagnosis/thresholds.py`.

This page is printed from the detectors themselves: `python -m service.diagnosis`.
"""


def section(detector: Detector) -> str:
    """One detector's docstring under its code."""
    page = inspect.getdoc(type(detector)) or ""
    return f"## {detector.code}\n\n*{detector.title}.*\n\n{page}\n"


if __name__ == "__main__":
    sys.stdout.write("\n".join([INTRODUCTION, *map(section, ALL_DETECTORS)]))
