"""What labelled networks taught about how far to trust the statistics and the short training.

The numbers themselves stand in `fitted.py`, which `python -m benchmarks.calibrate --write` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LABELS = ("unhealthy", "at_risk", "healthy")
"""The verdicts between which probability is shared out."""


Triple = tuple[float, float, float]
"""One number per verdict, in the order of LABELS."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """Of a belief p and some signs s: P(k) ∝ exp(bias_k + trust·ln p_k + Σ weights_k·s). Without
    signs this is temperature scaling with a bias (Guo et al. 2017, section 4.2)."""

    trust: float
    """1: the belief counts as it is; less: it is too sure of itself."""
    bias: Triple
    weights: Mapping[str, Triple]
    """By sign, per verdict."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything that was fitted."""

    doubt: float
    """Log-odds that training is at risk in a network without findings and oddities."""
    oddities: Mapping[str, float]
    """Log-odds that each unit of an oddity adds, ≥ 0."""
    static: Weighing
    """Of the static belief alone; no signs."""
    trial: Weighing
    """Of the static belief and the signs of the short training."""
