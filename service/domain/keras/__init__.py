"""Keras architectures (`model.to_json()` of Keras 2 and 3) as specs, without Keras."""

from service.domain.keras.translation import Translated, translate

__all__ = ["Translated", "translate"]
