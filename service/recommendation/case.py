"""What a remedy looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from service.domain.architecture import Architecture, LayerNode
from service.domain.findings import Diagnosis, Severity, Verdict
from service.domain.measurements import LayerMeasurements, Measurements, Trial
from service.domain.probe_plan import OptimizerPlan
from service.domain.request import ALL_KINDS

RECURRENT_OPS = ("rnn", "lstm", "gru")


@dataclass(frozen=True)
class Case:
    """One diagnosed model."""

    diagnosis: Diagnosis
    measurements: Measurements
    architecture: Architecture | None
    """None for an uploaded model."""
    batch_size: int
    """Samples per training batch, ≥ 1."""
    trial: Trial | None
    """None when the short training was off or not needed."""
    allowed: tuple[str, ...] = ALL_KINDS
    """Kinds of change that the caller can use."""
    optimizer: OptimizerPlan | None = None
    """The one that the request names."""

    def codes(self, curable: frozenset[str]) -> tuple[str, ...]:
        """The findings of weight that a remedy may cure, worst first; none when healthy.

        Changing nothing is best for a model that trains.
        """
        if self.diagnosis.verdict is Verdict.HEALTHY:
            return ()
        found = (f.code for f in self.diagnosis.findings if f.severity is not Severity.INFO)
        return tuple(dict.fromkeys(code for code in found if code in curable))

    def layers_with(self, code: str) -> frozenset[str]:
        """Names of the layers that findings of that code name."""
        findings = self.diagnosis.findings
        return frozenset(name for f in findings if f.code == code for name in f.layers)

    def matrices(self) -> tuple[LayerMeasurements, ...]:
        """Linear and convolutional layers, each once however often it is used."""
        return self._matrices

    @cached_property
    def _matrices(self) -> tuple[LayerMeasurements, ...]:
        # Asked for at every layer: to look for them every time takes the square of the depth.
        return tuple(filter(is_matrix, self.measurements.layers))

    def recurrent(self) -> tuple[LayerMeasurements, ...]:
        """RNN, LSTM and GRU layers, each once."""
        return self._recurrent

    @cached_property
    def _recurrent(self) -> tuple[LayerMeasurements, ...]:
        layers = self.measurements.layers
        return tuple(one for one in layers if one.op in RECURRENT_OPS and "#" not in one.name)

    def head(self) -> str | None:
        """Name of the layer that gives the output: the last linear or convolutional one."""
        matrices = self.matrices()
        return matrices[-1].name if matrices else None

    def depth(self) -> int:
        """Layers on the longest path."""
        return self._depth

    @cached_property
    def _depth(self) -> int:
        return max((layer.depth for layer in self.measurements.layers), default=0)

    def branches(self) -> int:
        """Number of residual additions on the path."""
        return self._branches

    @cached_property
    def _branches(self) -> int:
        return sum(layer.residual for layer in self.measurements.layers)

    def modules(self) -> frozenset[str]:
        """Names of all that has parameters, itself or within."""
        return self._modules

    @cached_property
    def _modules(self) -> frozenset[str]:
        parts = [
            parameter.name.split(".")[:-1]
            for layer in self.measurements.layers
            for parameter in layer.parameters
        ]
        return frozenset(".".join(own[:end]) for own in parts for end in range(1, len(own) + 1))

    def negative_slope(self, layer: LayerMeasurements) -> float:
        """LeakyReLU's slope behind a layer; torch's 0.01 where the model does not say."""
        if layer.nonlinearity != "leaky_relu" or self.architecture is None:
            return 0.01
        first = self.architecture.layers[0].name
        return self._slopes.get(layer.name, self._slopes[first])

    @cached_property
    def _slopes(self) -> Mapping[str, float]:
        """Of the next LeakyReLU from each layer of the spec on."""
        found, slope = {}, 0.01
        for node in reversed(self.architecture.layers if self.architecture else ()):
            if node.type == "LeakyReLU":
                slope = _slope(node)
            found[node.name] = slope
        return found


def is_matrix(layer: LayerMeasurements) -> bool:
    """A linear or convolutional layer, where it is used first."""
    return (layer.op == "linear" or layer.op.startswith("conv")) and "#" not in layer.name


def _slope(node: LayerNode) -> float:
    return float(node.args.get("negative_slope", 0.01))
