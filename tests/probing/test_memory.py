"""What the domain says of bytes is what torch's types take."""

from __future__ import annotations

import pytest
import torch

from service.domain.memory import parameter_bytes, stored_bytes
from service.probing.precision import PRECISIONS


@pytest.mark.parametrize("name", PRECISIONS)
def test_bytes_are_those_of_the_types(name: str) -> None:
    precision = PRECISIONS[name]
    stored = precision.stored.itemsize
    assert stored_bytes(name) == stored
    beside = torch.float32.itemsize if precision.half else 0
    assert parameter_bytes(3, name) == 3 * (stored + beside)
