"""What a caller may ask of graddx. HTTP, CLI and tests come in here."""

from service.ports import PROBE_SECONDS, Artifact, Backlog, Filter, LayerPage, Page, WorkerSeen
from service.use_cases.engine import Engine, Readiness, Submitted
from service.use_cases.identity import new_id
from service.use_cases.use_cases import UseCases

__all__ = [
    "PROBE_SECONDS",
    "Artifact",
    "Backlog",
    "Engine",
    "Filter",
    "LayerPage",
    "Page",
    "Readiness",
    "Submitted",
    "UseCases",
    "WorkerSeen",
    "new_id",
]
