"""Lead each layer's input around it."""

from __future__ import annotations

from itertools import chain, pairwise

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
from service.recommendation.spec_editing import CannotSay
from service.recommendation.spec_structure import path_of
from service.recommendation.wording import counted

SKIP = """class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)
"""
"""Source of a module that adds its input."""
Block = tuple[LayerMeasurements, ...]
"""Layers that a skip goes around."""
LONGEST = 3
"""Layers of a block, at most."""
FEWEST = 3
"""Layers around which skips make a difference: below, an initializer does the same."""


class AddSkips:
    """Add each layer's input to its output, the branches scaled so that the stream stays bounded.

    ### What it changes
    Every linear and convolutional layer of a plain stack that keeps the shape of its input, except
    the last, becomes x + f(x), f being the layer with its normalization and activation; where
    widths change, f is two or three layers, so that the stream goes around a bottleneck. The last
    weights of the L branches are drawn 1/√L smaller than a plain stack needs, the scale of a
    normalization behind them is set to 1/√L.

    ### When it is offered
    When gradients vanish or explode, samples become indistinguishable or the short training does
    not learn, in models without a residual addition, around at least three layers.

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
    cures = frozenset(
        {"vanishing_gradient", "exploding_gradient", "rank_collapse", "narrow_layer", "untrainable"}
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        blocks = _blocks(case) if codes and not case.branches() else ()
        if sum(map(len, blocks)) < FEWEST:
            return ()
        scale = len(blocks) ** -0.5
        draws = tuple(draw for block in blocks for draw in _draws(case, block, scale))
        names = tuple(block[-1].name for block in blocks)
        begins = {block[-1].name: block[0].name for block in blocks if len(block) > 1}
        change = {
            "branch_scale": significant(scale),
            "begins": begins,
            "scaled": _scaled(blocks, draws),
            **as_change(draws),
        }
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
                code=source.draws(draws) + "\n" + _code(case, blocks),
            ),
        )


def _blocks(case: Case) -> tuple[Block, ...]:
    """The shortest runs of a plain chain whose output is shaped as what the first of them reads,
    one after the other; one layer each where all keep their width."""
    layers, head = case.measurements.layers, case.head()
    able = {layer.name for layer in case.matrices()} - {head}
    found: list[Block] = []
    start = 1
    while start < len(layers):
        runs = (layers[start:end] for end in range(start + 1, start + 1 + LONGEST))
        block = next((run for run in runs if _keeps_shape(layers[start - 1], run, able)), None)
        found += [block] if block else []
        start += len(block) if block else 1
    return tuple(found)


def _keeps_shape(before: LayerMeasurements, run: Block, able: set[str]) -> bool:
    return (
        bool(run)
        and run[-1].output_shape == before.output_shape
        and all(layer.name in able for layer in run)
        and all(two.depth == one.depth + 1 for one, two in pairwise((before, *run)))
        and _reads(run[0]) == _gives(run[-1])
    )


def _reads(layer: LayerMeasurements) -> int:
    """Features or channels that go in."""
    weight = max(own_parameters(layer), key=lambda p: len(p.shape))
    return weight.shape[0] if layer.op.startswith("conv_transpose") else weight.shape[1]


def _gives(layer: LayerMeasurements) -> int:
    """Units or channels that come out."""
    weight = max(own_parameters(layer), key=lambda p: len(p.shape))
    return weight.shape[1] if layer.op.startswith("conv_transpose") else weight.shape[0]


def _draws(case: Case, block: Block, scale: float) -> tuple[Draw, ...]:
    """The branch's last scale is its last normalization's, where it has one."""
    *inner, last = block
    own = {p.name for p in own_parameters(last)}
    norms = [p for p in last.parameters if p.name not in own and p.name.endswith(".weight")]
    val = significant(scale)
    return (
        *(
            draw
            for layer in inner
            for draw in draws_for(layer, Place(negative_slope=case.negative_slope(layer)))
        ),
        *draws_for(
            last,
            Place(branch_scale=1.0 if norms else scale, negative_slope=case.negative_slope(last)),
        ),
        *(Draw(p.name, p.shape, "constant_", {"val": val}, rms=val) for p in norms),
    )


def _scaled(blocks: tuple[Block, ...], draws: tuple[Draw, ...]) -> list[str]:
    """The weights that carry the scale of their branch."""
    normalized = {draw.parameter for draw in draws if draw.function == "constant_"}
    ends = [block[-1] for block in blocks]
    free = [end for end in ends if not normalized & {p.name for p in end.parameters}]
    own = {p.name for end in free for p in own_parameters(end) if len(p.shape) > 1}
    return [draw.parameter for draw in draws if draw.parameter in own]


def _code(case: Case, blocks: tuple[Block, ...]) -> str:
    """Modules that follow one another are put into one that adds its input; where only the names
    of the weights are known, the sum has to be written into `forward`."""
    behind = _paths(case, blocks)
    if behind is None:
        listed = "\n".join(f"#   {', '.join(layer.name for layer in block)}" for block in blocks)
        return f"# in forward, x = x + f(x) for f each of these with what is behind it:\n{listed}"
    paths = ",\n    ".join(repr(tuple(chain.from_iterable(each))) for each in behind)
    return f"""{SKIP}
for name, *rest in (
    {paths},
):
    model.set_submodule(name, Skip(*map(model.get_submodule, (name, *rest))))
    for other in rest:
        model.set_submodule(other, nn.Identity())"""


def _paths(case: Case, blocks: tuple[Block, ...]) -> list[list[tuple[str, ...]]] | None:
    """The modules of each block with what follows them; None where only `forward` can say it: a
    merge reads what follows, or a layer is used again."""
    if case.architecture is None:
        return None
    layers = case.architecture.layers
    nodes = {node.name: node for node in layers}
    if any(layer.name not in nodes for block in blocks for layer in block):
        return None
    try:
        return [[path_of(layers, nodes[layer.name]) for layer in block] for block in blocks]
    except CannotSay:
        return None
