"""Put a normalization behind the layers that have none."""

from __future__ import annotations

import math

from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation import source, spec_patch
from service.recommendation.case import Case
from service.recommendation.initialization import own_parameters
from service.recommendation.wording import counted

SMALL_BATCH = 16
"""Below so many samples batch statistics are too noisy: Wu & He 2018 (arXiv:1803.08494)."""
DEEPEST_BATCH_NORM = 30
"""Plain layers beyond which BatchNorm's own gradient, √(π/(π-1)) = 1.21 per ReLU layer, explodes:
1.21³⁰ = 300 (Yang et al. 2019, arXiv:1902.08129)."""
GROUPS = 32
"""Groups of GroupNorm at most, the paper's default."""


class Normalize:
    """Put a normalization between each layer and its activation.

    ### What it changes
    After every linear and convolutional layer without one, except the last: BatchNorm for
    convolutions with batches of at least 16 and moderate depth, GroupNorm for smaller batches or
    deeper plain stacks; BatchNorm1d for a moderately deep multilayer perceptron with such batches,
    LayerNorm otherwise, for sequences and next to recurrent layers.

    ### When it is offered
    When gradients vanish or explode, values overflow, activations drift, saturate, die or become
    indistinguishable, or the short training does not learn, and a layer has no normalization.
    Not in models with attention, where the place of the normalization is part of the block.

    ### Why it works
    It fixes the scale of every pre-activation whatever the weights are, so neither signal nor
    gradient can shrink or grow through the weights.

    ### Limits
    The activation's own factor remains: √(E[φ'²]/Var φ) per layer with BatchNorm, 1.21 for ReLU,
    so it is not offered for plain stacks beyond 30 layers; with LayerNorm samples grow alike over
    depth. BatchNorm couples the samples of a batch and behaves differently in evaluation.

    ### References
    * Ioffe & Szegedy 2015, arXiv:1502.03167. Ba et al. 2016, arXiv:1607.06450.
    * Wu & He 2018, arXiv:1803.08494. Yang et al. 2019, arXiv:1902.08129.
    """

    kind = "normalization"
    cures = frozenset(
        {
            "vanishing_gradient",
            "exploding_gradient",
            "nonfinite_values",
            "poor_initialization",
            "saturated_activation",
            "dead_units",
            "rank_collapse",
            "untrainable",
        }
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        layers = _bare(case)
        if not codes or not layers:
            return ()
        new = {layer.name: _normalization(case, layer) for layer in layers}
        kinds = sorted({kind for kind, _ in new.values()})
        inserted = {name: {"type": kind, "args": args} for name, (kind, args) in new.items()}
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=tuple(new),
                title=f"Add {' and '.join(kinds)} after {counted(tuple(new))}",
                why=_why(case, kinds),
                resolves=codes,
                change={
                    "normalization": kinds[0] if len(kinds) == 1 else kinds,
                    "layers": [{"after": name, **layer} for name, layer in inserted.items()],
                },
                patch=spec_patch.insert_after(case.architecture, inserted)
                if case.architecture
                else None,
                code=_code(new),
            ),
        )


def _bare(case: Case) -> tuple[LayerMeasurements, ...]:
    if any(layer.op == "attention" for layer in case.measurements.layers):
        return ()
    return tuple(
        layer
        for layer in case.matrices()
        if layer.normalization is None and layer.name != case.head() and layer.name
    )


def _normalization(case: Case, layer: LayerMeasurements) -> tuple[str, dict[str, object]]:
    """The torch.nn class and its arguments for the width of a layer's weight."""
    plain = case.branches() == 0
    batched = case.batch_size >= SMALL_BATCH and (not plain or case.depth() <= DEEPEST_BATCH_NORM)
    if layer.op.startswith("conv"):
        channels = _units(layer)
        if batched:
            return f"BatchNorm{layer.op[-2:]}", {"num_features": channels}
        return "GroupNorm", {"num_groups": math.gcd(GROUPS, channels), "num_channels": channels}
    features = _units(layer)
    sequence = len(layer.output_shape) > 2 or bool(case.recurrent())
    if batched and not sequence:
        return "BatchNorm1d", {"num_features": features}
    return "LayerNorm", {"normalized_shape": features}


def _units(layer: LayerMeasurements) -> int:
    """Units of a linear layer, channels of a convolution, from the weight: what follows in the
    layer may have flattened or pooled its output."""
    weight = max(own_parameters(layer), key=lambda p: len(p.shape))
    return weight.shape[1] if layer.op.startswith("conv_transpose") else weight.shape[0]


def _code(new: dict[str, tuple[str, dict[str, object]]]) -> str:
    groups: dict[str, list[str]] = {}
    for name, (kind, args) in new.items():
        width = ", ".join(f"{value!r}" for value in args.values())
        groups.setdefault(f"nn.Sequential({{module}}, nn.{kind}({width}))", []).append(name)
    return "\n".join(source.replace_modules(names, made) for made, names in groups.items())


def _why(case: Case, kinds: list[str]) -> str:
    reason = {
        "B": f"the batch of {case.batch_size} is large enough for batch statistics",
        "G": f"batches of {case.batch_size} over {case.depth()} layers do not suit BatchNorm",
        "L": "it needs no batch statistics",
    }[kinds[0][0]]
    return (
        "It fixes the scale of every pre-activation whatever the weights are;"
        f" {kinds[0]} because {reason}."
    )
