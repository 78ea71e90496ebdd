"""How large a described network may be. Each limit is far above what one probe can measure, and
low enough that a hostile spec is refused before it costs time."""

from __future__ import annotations

from service.domain.layers.layer_type import Applied
from service.domain.layers.tensor import elements

MAX_LAYERS = 20_000
"""Layers after expansion: the deepest published plain nets have 10,000."""
MAX_NESTING = 16
"""Groups within groups."""
MAX_INPUTS = 256
"""Inputs of one merge; a DenseNet block joins about 50."""
MAX_CONNECTIONS = 100_000
"""Inputs of all layers together: five for every layer."""
MAX_PARAMETERS = 2_000_000_000
"""Numbers to learn: 8 GB of float32, more than a probe's memory."""
MAX_PARAMETER_TENSORS = 50_000
"""Weights and biases: two for every layer and some to spare."""
MAX_ELEMENTS = 100_000_000
"""Numbers in one layer's output for one sample: 400 MB of float32."""
MAX_DIMENSIONS = 8
"""Dimensions of a sample; (channels, depth, height, width) are four."""
MAX_INIT_KEYS = 64
"""Keys in one `init`; a TransformerDecoderLayer has 18 parameters."""


class Budget:
    """What is left of the limits that layers share."""

    def __init__(self) -> None:
        self._layers = 0
        self._connections = 0
        self._parameters = 0
        self._tensors = 0

    def begin_layer(self) -> str | None:
        """Count one more layer; the limit it breaks, in words, or None."""
        self._layers += 1
        return f"{MAX_LAYERS} layers" if self._layers > MAX_LAYERS else None

    def connect(self, inputs: int) -> str | None:
        """Count a layer's inputs; the limit they break, in words, or None."""
        self._connections += inputs
        return f"{MAX_CONNECTIONS} inputs" if self._connections > MAX_CONNECTIONS else None

    def spend(self, applied: Applied) -> str | None:
        """Count a layer's parameters and output; the limit they break, in words, or None."""
        self._parameters += sum(map(elements, applied.parameters.values()))
        self._tensors += len(applied.parameters)
        shape = applied.output.shape
        broken = {
            f"{MAX_ELEMENTS} numbers per sample": elements(shape) > MAX_ELEMENTS,
            f"{MAX_DIMENSIONS} dimensions per sample": len(shape) > MAX_DIMENSIONS,
            f"{MAX_PARAMETERS} parameters": self._parameters > MAX_PARAMETERS,
            f"{MAX_PARAMETER_TENSORS} parameter tensors": self._tensors > MAX_PARAMETER_TENSORS,
        }
        return next((limit for limit, is_broken in broken.items() if is_broken), None)
