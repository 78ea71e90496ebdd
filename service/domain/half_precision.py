"""What float16 can hold, and the loss scale that makes gradients fit into it.

float16 has five bits of exponent: its numbers end at 65504 and at 2⁻²⁴, and half of that rounds to
zero (IEEE 754-2019, §3.6). bfloat16 has float32's exponent and needs no scale.
"""

from __future__ import annotations

import math

LARGEST = 65504.0
"""Largest number of float16, (2 - 2⁻¹⁰)·2¹⁵."""
ROUNDS_TO_ZERO = 2.0**-25
"""Numbers up to half the smallest subnormal of float16 round to 0."""
HEADROOM = 8.0
"""How much larger gradients may become in training before they overflow at the recommended scale:
two of them would do for one step (Micikevicius et al. 2018, §3.2 choose the product of scale and
largest gradient below 65504), and gradients often grow early in training."""
SMALL_SHARE = 0.05
"""Share of a layer's nonzero gradient elements that may be lost: where 5 % were, training suffered
in Micikevicius et al. 2018, §3.2 and figure 3."""


def loss_scale(largest: float | None) -> float | None:
    """The largest power of two under which a gradient of this size stays `HEADROOM` below
    float16's largest number; None without a gradient."""
    if not largest or not math.isfinite(largest):
        return None
    return float(2.0 ** math.floor(math.log2(LARGEST / HEADROOM / largest)))


def is_held(small: float | None, scale: float) -> bool:
    """Whether float16 keeps a gradient of which `SMALL_SHARE` lies under `small`, so scaled."""
    return not small or small * scale > ROUNDS_TO_ZERO
