"""Every remedy, least invasive first; adding one is one file and one line here."""

from __future__ import annotations

from service.recommendation.remedies.activation import ReplaceActivation
from service.recommendation.remedies.clipping import ClipGradients
from service.recommendation.remedies.initializer import Reinitialize
from service.recommendation.remedies.input_scaling import ScaleInput
from service.recommendation.remedies.learning_rate import ChangeRate
from service.recommendation.remedies.loss_scaling import ScaleLoss
from service.recommendation.remedies.normalization import Normalize
from service.recommendation.remedies.pretraining import PretrainLayers
from service.recommendation.remedies.recurrent_cell import ReplaceCell
from service.recommendation.remedies.regularization import Regularize
from service.recommendation.remedies.residual import AddSkips
from service.recommendation.remedy import Remedy

ALL_REMEDIES: tuple[Remedy, ...] = (
    Reinitialize(),
    ScaleInput(),
    Regularize(),
    Normalize(),
    ReplaceActivation(),
    AddSkips(),
    ReplaceCell(),
    PretrainLayers(),
    ChangeRate(),
    ScaleLoss(),
    ClipGradients(),
)
