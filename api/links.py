"""Where a finding is explained: a section of the guide that this server serves."""

from __future__ import annotations

DETECTORS = "/guide/detectors.html"
"""The page that docs/detectors.md becomes."""


def docs_path(code: str) -> str:
    """Path on this server of the section on findings of this code."""
    return f"{DETECTORS}#{code}"


def docs_address(address: str, code: str) -> str:
    """The same as an address that leads there from anywhere. `address`: of the analysis."""
    server, _, _ = address.partition("/v1/")
    return f"{server}{docs_path(code)}"
