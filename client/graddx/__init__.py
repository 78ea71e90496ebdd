"""Client of graddx: will this network train?

with Client("http://127.0.0.1:8000") as client:
    analysis = client.analyze(spec)
"""

from graddx.async_client import AsyncClient
from graddx.catalog import Catalog
from graddx.client import Client
from graddx.comparison import Comparison, HistoryPoint
from graddx.errors import (
    AccessDenied,
    AnalysisCancelled,
    AnalysisFailed,
    AnalysisNotFound,
    AnalysisUnfinished,
    ApiError,
    ArtifactNotFound,
    ArtifactRejected,
    Busy,
    ConnectionFailed,
    ExportFailed,
    Fault,
    Forbidden,
    GraddxError,
    InvalidInput,
    InvalidRequest,
    NoPrescription,
    NotFinished,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    RateLimited,
    ServerError,
    ShapeMismatch,
    StorageFull,
    Unauthorized,
    UnknownLayerType,
    UnsupportedArtifact,
)
from graddx.results import (
    Analysis,
    AnalysisHead,
    Artifact,
    Diagnosis,
    Finding,
    Prescription,
    Progress,
    Recommendation,
    Succeeded,
)
from graddx.statistics import Layer

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Analysis",
    "AnalysisCancelled",
    "AnalysisFailed",
    "AnalysisHead",
    "AnalysisNotFound",
    "AnalysisUnfinished",
    "ApiError",
    "Artifact",
    "ArtifactNotFound",
    "ArtifactRejected",
    "AsyncClient",
    "Busy",
    "Catalog",
    "Client",
    "Comparison",
    "ConnectionFailed",
    "Diagnosis",
    "ExportFailed",
    "Fault",
    "Finding",
    "Forbidden",
    "GraddxError",
    "HistoryPoint",
    "InvalidInput",
    "InvalidRequest",
    "Layer",
    "NoPrescription",
    "NotFinished",
    "NotFound",
    "PayloadTooLarge",
    "Prescription",
    "Progress",
    "QueueFull",
    "RateLimited",
    "Recommendation",
    "ServerError",
    "ShapeMismatch",
    "StorageFull",
    "Succeeded",
    "Unauthorized",
    "UnknownLayerType",
    "UnsupportedArtifact",
]
