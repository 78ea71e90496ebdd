"""What every type that comes back is made of."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite_inside(value: Any) -> Any:
    """JSON without NaN and infinities, whatever its shape."""
    if isinstance(value, dict):
        return {str(name): _finite_inside(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_inside(item) for item in value]
    return _finite(value)


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A finite number, or null when it is not finite or does not apply."""
Json = Annotated[dict[str, Any], BeforeValidator(_finite_inside)]
JsonOrNull = Annotated[dict[str, Any] | None, BeforeValidator(_finite_inside)]


class Out(BaseModel):
    """Frozen; reads attributes."""

    model_config = ConfigDict(frozen=True, from_attributes=True, use_attribute_docstrings=True)
