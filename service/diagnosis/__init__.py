"""Numbers → findings → verdict. Pure: no torch, no numpy, no IO."""

from service.diagnosis.detectors import ALL_DETECTORS
from service.diagnosis.diagnose import diagnose, unmatched, wants_settling, wants_trial

__all__ = ["ALL_DETECTORS", "diagnose", "unmatched", "wants_settling", "wants_trial"]
