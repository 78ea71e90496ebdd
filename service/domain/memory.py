"""What a spec's model would take at least, by its sizes alone: nothing is built."""

from __future__ import annotations

from math import prod

from service.domain.architecture import Architecture
from service.domain.probe_plan import ProbePlan

MIB = 1024 * 1024
AUTO_BATCH = 64
"""Samples per probe batch when the request says auto: enough for BatchNorm and for the spread
between samples; statistics over 4 × 3 such batches repeat within a few percent."""
HELD = 3.0
"""Bytes held at the height of a pass over the bytes of all operations' outputs: the outputs,
their gradients, and the workspace of reductions and convolutions."""
COPIES = 5.0
"""Times the parameters are in memory while they are trained: themselves, their start, gradients,
and two moments of Adam."""
NEAR = 0.125
"""Share of the memory that a spec has to come near by its layers' sizes before its operations are
looked at, which takes a millisecond each: inside a layer may be several times what it gives."""
_FLOAT32_BYTES = 4
_STORED_BYTES = {"float64": 8, "pure_bfloat16": 2, "pure_float16": 2}
"""Bytes of a stored number, where it is not float32."""


def stored_bytes(precision: str) -> int:
    """Of one number of a parameter or output."""
    return _STORED_BYTES.get(precision, _FLOAT32_BYTES)


def parameter_bytes(numbers: int, precision: str) -> int:
    """As stored, and once more in float32, which 16 bits are compared with."""
    beside = 0 if precision in ("float32", "float64") else _FLOAT32_BYTES
    return numbers * (stored_bytes(precision) + beside)


def comes_near(plan: ProbePlan, architecture: Architecture, memory_mb: int) -> bool:
    """Whether what the operations give has to be foreseen in detail under so many MiB."""
    outputs = sum(prod(layer.output_shape) for layer in architecture.layers)
    batch = (plan.batch_size or AUTO_BATCH) * HELD * outputs * stored_bytes(plan.precision)
    parameters = parameter_bytes(architecture.size, plan.precision)
    return COPIES * parameters + batch > NEAR * memory_mb * MIB
