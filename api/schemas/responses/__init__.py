"""What comes back, by noun. Each type reads itself off the domain dataclass of the same fields."""

from __future__ import annotations

from api.schemas.responses.analyses import (
    AnalysesOut,
    AnalysisHeadOut,
    AnalysisOut,
    BaselineOut,
    CostOut,
    EngineOut,
    FailureOut,
    ModelOut,
    ProgressOut,
)
from api.schemas.responses.artifacts import (
    ArtifactOut,
)
from api.schemas.responses.catalog import (
    ArgumentOut,
    CatalogOut,
    DetectorOut,
    InitializerOut,
    LayerTypeOut,
    RemedyOut,
)
from api.schemas.responses.comparison import (
    ComparisonOut,
    FindingChangeOut,
    LayerChangeOut,
    SideOut,
    StatisticChangeOut,
)
from api.schemas.responses.diagnosis import (
    DiagnosisOut,
    GradientCheckOut,
    ModelDiagnosisOut,
    QuantilesOut,
)
from api.schemas.responses.findings import (
    FindingOut,
    SuppressedOut,
)
from api.schemas.responses.history import (
    HistoryOut,
    HistoryPointOut,
)
from api.schemas.responses.layers import (
    ActivationOut,
    GradientOut,
    LayerOut,
    LayersOut,
    ParameterOut,
    PrecisionLossOut,
    TimeStepsOut,
)
from api.schemas.responses.operations import (
    LiveOut,
    ReadyOut,
)
from api.schemas.responses.recommendations import (
    EffectOut,
    LayerAfterOut,
    PrescriptionLinksOut,
    PrescriptionOut,
    RecommendationOut,
)

__all__ = (
    "ActivationOut",
    "AnalysesOut",
    "AnalysisHeadOut",
    "AnalysisOut",
    "ArgumentOut",
    "ArtifactOut",
    "BaselineOut",
    "CatalogOut",
    "ComparisonOut",
    "CostOut",
    "DetectorOut",
    "DiagnosisOut",
    "EffectOut",
    "EngineOut",
    "FailureOut",
    "FindingChangeOut",
    "FindingOut",
    "GradientCheckOut",
    "GradientOut",
    "HistoryOut",
    "HistoryPointOut",
    "InitializerOut",
    "LayerAfterOut",
    "LayerChangeOut",
    "LayerOut",
    "LayerTypeOut",
    "LayersOut",
    "LiveOut",
    "ModelDiagnosisOut",
    "ModelOut",
    "ParameterOut",
    "PrecisionLossOut",
    "PrescriptionLinksOut",
    "PrescriptionOut",
    "ProgressOut",
    "QuantilesOut",
    "ReadyOut",
    "RecommendationOut",
    "RemedyOut",
    "SideOut",
    "StatisticChangeOut",
    "SuppressedOut",
    "TimeStepsOut",
)
