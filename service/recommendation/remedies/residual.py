"""Lead each layer's input around it."""

from __future__ import annotations

from itertools import pairwise

from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation import source
from service.recommendation.case import Case
from service.recommendation.initialization import (
    Draw,
    Place,
    as_change,
    draws_for,
    own_parameters,
    significant,
)
from service.recommendation.repaired import patch_of
from service.recommendation.spec_structure import path_of
from service.recommendation.wording import counted

SKIP = """class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)
"""
"""Source of a module that adds its input."""
FEWEST = 3
"""Skips that make a difference: below, an initializer does the same."""


class AddSkips:
    """Add each layer's input to its output, the branches scaled so that the stream stays bounded.

    ### What it changes
    Every linear and convolutional layer of a plain stack that keeps the shape of its input, except
    the last, becomes x + f(x), f being the layer with its normalization and activation. The weights
    of the L branches are drawn 1/√L smaller than a plain stack needs, the scale of a normalization
    behind them is set to 1/√L.

    ### When it is offered
    When gradients vanish or explode, samples become indistinguishable or the short training does
    not learn, in models without a residual addition that have at least three such layers in a row.

    ### Why it works
    The gradient at x + f(x) is that of x plus what comes through f: it cannot be lost through the
    identity, whatever f does. With branches of gain a/√L the squared gradient grows by at most
    (1 + a²/L)^L < e^(a²), and the layers need not learn to pass the signal on.

    ### Limits
    Changes what the network computes; trained weights have to be trained again. The scale stands in
    the weights, so it holds exactly for positively homogeneous activations (ReLU, leaky ReLU) and
    for small signals. A sigmoid's output is never negative, so the stream drifts with depth.

    ### References
    * He et al. 2016, arXiv:1512.03385 and arXiv:1603.05027.
    * Hanin & Rolnick 2018, arXiv:1803.01719; Zhang et al. 2019, arXiv:1901.09321 (1/√L).
    * Balduzzi et al. 2017, arXiv:1702.08591, Shattered gradients.
    """

    kind = "residual"
    cures = frozenset({"vanishing_gradient", "exploding_gradient", "rank_collapse", "untrainable"})

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        layers = _keeping_shape(case) if codes and not case.branches() else ()
        if len(layers) < FEWEST:
            return ()
        scale = len(layers) ** -0.5
        draws = tuple(draw for layer in layers for draw in _draws(case, layer, scale))
        names = tuple(layer.name for layer in layers)
        change = {"branch_scale": significant(scale), **as_change(draws)}
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=names,
                title=f"Add the input of {counted(names)} to the output (branch scale {scale:.3g})",
                why=f"Around {len(names)} layers the gradient passes by the identity; branches of"
                f" 1/√{len(names)} = {scale:.3g} keep the stream within a factor of e over depth.",
                resolves=codes,
                change=change,
                patch=patch_of(case.architecture, {"kind": self.kind, "layers": names, **change}),
                code=source.draws(draws) + "\n" + _code(case, names),
            ),
        )


def _keeping_shape(case: Case) -> tuple[LayerMeasurements, ...]:
    """Layers of a plain chain whose output is shaped as the one before it."""
    matrices = {layer.name for layer in case.matrices()} - {case.head()}
    return tuple(
        layer
        for before, layer in pairwise(case.measurements.layers)
        if layer.name in matrices
        and layer.depth == before.depth + 1
        and layer.output_shape == before.output_shape
        and _keeps_width(layer)
    )


def _keeps_width(layer: LayerMeasurements) -> bool:
    weight = max(own_parameters(layer), key=lambda p: len(p.shape))
    return len(weight.shape) > 1 and weight.shape[0] == weight.shape[1]


def _draws(case: Case, layer: LayerMeasurements, scale: float) -> tuple[Draw, ...]:
    """The branch's last scale is its normalization's, where it has one."""
    own = {p.name for p in own_parameters(layer)}
    norms = [p for p in layer.parameters if p.name not in own and p.name.endswith(".weight")]
    place = Place(branch_scale=1.0 if norms else scale, negative_slope=case.negative_slope(layer))
    val = significant(scale)
    return draws_for(layer, place) + tuple(
        Draw(p.name, p.shape, "constant_", {"val": val}, rms=val) for p in norms
    )


def _code(case: Case, names: tuple[str, ...]) -> str:
    """Modules that follow one another are put into one that adds its input; where only the names
    of the weights are known, the sum has to be written into `forward`."""
    if case.architecture is None:
        listed = "\n".join(f"#   {name}" for name in names)
        return f"# in forward, x = x + f(x) for f each of these with what is behind it:\n{listed}"
    nodes = {node.name: node for node in case.architecture.layers}
    paths = ",\n    ".join(repr(path_of(case.architecture.layers, nodes[name])) for name in names)
    return f"""{SKIP}
for name, *rest in (
    {paths},
):
    model.set_submodule(name, Skip(*map(model.get_submodule, (name, *rest))))
    for other in rest:
        model.set_submodule(other, nn.Identity())"""
