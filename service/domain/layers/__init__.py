"""The table of layer types: signatures, shape rules and parameters, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from service.domain.layers.activation import ACTIVATION_TYPES
from service.domain.layers.convolution import CONVOLUTION_TYPES
from service.domain.layers.dropout import DROPOUT_TYPES
from service.domain.layers.embedding import EMBEDDING_TYPES
from service.domain.layers.layer_type import LayerType
from service.domain.layers.linear import LINEAR_TYPES
from service.domain.layers.merging import MERGING_TYPES
from service.domain.layers.normalization import NORMALIZATION_TYPES
from service.domain.layers.padding import PADDING_TYPES
from service.domain.layers.parameter import PARAMETER_TYPES
from service.domain.layers.pooling import POOLING_TYPES
from service.domain.layers.recurrent import RECURRENT_TYPES
from service.domain.layers.reshaping import RESHAPING_TYPES
from service.domain.layers.transformer import ATTENTION_TYPES

LAYER_TYPES: Mapping[str, LayerType] = MappingProxyType(
    {
        layer_type.name: layer_type
        for family in (
            LINEAR_TYPES,
            CONVOLUTION_TYPES,
            RECURRENT_TYPES,
            ATTENTION_TYPES,
            EMBEDDING_TYPES,
            ACTIVATION_TYPES,
            NORMALIZATION_TYPES,
            POOLING_TYPES,
            DROPOUT_TYPES,
            PADDING_TYPES,
            RESHAPING_TYPES,
            PARAMETER_TYPES,
            MERGING_TYPES,
        )
        for layer_type in family
    }
)
"""Every type a spec may name, by name."""
