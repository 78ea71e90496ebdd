"""The registry: one module per problem, in the order in which findings of equal weight are told."""

from __future__ import annotations

from service.diagnosis.detector import Detector
from service.diagnosis.detectors.dead_units import DeadUnits
from service.diagnosis.detectors.disconnected_parameter import DisconnectedParameter
from service.diagnosis.detectors.drowned_signal import DrownedSignal
from service.diagnosis.detectors.exploding_gradient import ExplodingGradient
from service.diagnosis.detectors.exported_in_eval_mode import ExportedInEvalMode
from service.diagnosis.detectors.extreme_update_ratio import ExtremeUpdateRatio
from service.diagnosis.detectors.fading_memory import FadingMemory
from service.diagnosis.detectors.gain_off_theory import GainOffTheory
from service.diagnosis.detectors.gradient_check_failed import GradientCheckFailed
from service.diagnosis.detectors.gradient_regression import GradientRegression
from service.diagnosis.detectors.half_precision_overflow import HalfPrecisionOverflow
from service.diagnosis.detectors.half_precision_underflow import HalfPrecisionUnderflow
from service.diagnosis.detectors.initial_loss_off import InitialLossOff
from service.diagnosis.detectors.lost_updates import LostUpdates
from service.diagnosis.detectors.narrow_layer import NarrowLayer
from service.diagnosis.detectors.noisy_gradient import NoisyGradient
from service.diagnosis.detectors.nonfinite_values import NonfiniteValues
from service.diagnosis.detectors.output_loss_mismatch import OutputLossMismatch
from service.diagnosis.detectors.poor_initialization import PoorInitialization
from service.diagnosis.detectors.rank_collapse import RankCollapse
from service.diagnosis.detectors.saturated_activation import SaturatedActivation
from service.diagnosis.detectors.small_batch_normalization import SmallBatchNormalization
from service.diagnosis.detectors.symmetric_initialization import SymmetricInitialization
from service.diagnosis.detectors.unscaled_input import UnscaledInput
from service.diagnosis.detectors.untrainable import Untrainable
from service.diagnosis.detectors.vanishing_gradient import VanishingGradient

ALL_DETECTORS: tuple[Detector, ...] = (
    NonfiniteValues(),
    UnscaledInput(),
    SymmetricInitialization(),
    VanishingGradient(),
    ExplodingGradient(),
    FadingMemory(),
    DrownedSignal(),
    RankCollapse(),
    NarrowLayer(),
    DeadUnits(),
    SaturatedActivation(),
    PoorInitialization(),
    OutputLossMismatch(),
    InitialLossOff(),
    SmallBatchNormalization(),
    ExtremeUpdateRatio(),
    NoisyGradient(),
    DisconnectedParameter(),
    GradientCheckFailed(),
    Untrainable(),
    GainOffTheory(),
    ExportedInEvalMode(),
    HalfPrecisionOverflow(),
    HalfPrecisionUnderflow(),
    LostUpdates(),
    GradientRegression(),
)
"""Causes before their consequences."""
