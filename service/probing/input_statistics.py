"""What the caller's data look like to the model: scale, offset, and how alike the features are."""

from __future__ import annotations

import torch
from torch import Tensor

from service.domain.measurements import InputStatistics
from service.probing.data import Data
from service.probing.pooling import quantile

ENOUGH = 1 << 22
"""Elements from which evenly spread rows stand for all."""


def input_statistics(data: Data, *, channels_first: bool) -> tuple[InputStatistics, ...]:
    """Of every floating-point input. Features are the last dimension, or dimension 1 where
    `channels_first` (what convolutions read)."""
    return tuple(
        _statistics(index, tensor, 1 if channels_first and tensor.ndim > 2 else -1)
        for index, tensor in enumerate(data.inputs)
        if tensor.is_floating_point() and tensor.ndim > 1 and bool(tensor.isfinite().all())
    )


@torch.no_grad()
def _statistics(index: int, tensor: Tensor, feature_dim: int) -> InputStatistics:
    rows = tensor[:: max(1, tensor.numel() // ENOUGH)].double()
    features = rows.movedim(feature_dim, 0).flatten(1)
    means, deviations = features.mean(1), features.std(1, correction=0)
    varied = deviations > 0
    sizes = sorted(means[varied].hypot(deviations[varied]).tolist())
    offsets = sorted((means[varied].abs() / deviations[varied]).tolist())
    return InputStatistics(
        index=index,
        mean=float(rows.mean()),
        std=float(rows.std(correction=0)),
        features=len(features),
        constant_features=len(features) - int(varied.sum()),
        feature_rms_p25=quantile(sizes, 0.25),
        feature_rms_max=sizes[-1] if sizes else None,
        feature_offset_p50=quantile(offsets, 0.5),
    )
