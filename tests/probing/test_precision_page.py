"""The code of docs/precision.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = (Path(__file__).parents[2] / "docs" / "precision.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, "docs/precision.md", "exec"), names)
    return names


def test_there_are_two_blocks() -> None:
    assert len(BLOCKS) == 2


def test_the_scale_is_taken_out_again() -> None:
    ran = run(BLOCKS[0])
    assert ran["scaler"].get_scale() == 2.0**12 or not torch.cuda.is_available()
    assert torch.isfinite(ran["loss"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_layer_stays_in_float32(dtype: torch.dtype) -> None:
    model = run(BLOCKS[1])["model"]
    seen: list[torch.dtype] = []
    model[1].layer.register_forward_hook(lambda _m, x, y: seen.extend([x[0].dtype, y.dtype]))
    with torch.autocast("cpu", dtype):
        assert model(torch.randn(4, 64)).dtype is dtype
    assert seen == [torch.float32, torch.float32]
