"""Lead each layer's input around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from service.domain.recommendations import Recommendation
from service.recommendation import source
from service.recommendation.blocks import Block, Projection, blocks_of
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
from service.recommendation.spec_structure import path_of, readers_of
from service.recommendation.wording import counted

SKIP = """class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)
"""
"""Source of a module that adds its input."""
SHORTCUT = """class Shortcut(nn.Module):
    def __init__(self, projection, *branch):
        super().__init__()
        nn.init.kaiming_normal_(projection.weight, nonlinearity='linear')
        self.projection, self.branch = projection, nn.Sequential(*branch)

    def forward(self, x):
        return self.projection(x) + self.branch(x)
"""
"""Source of a module that adds a linear map of its input."""
FEWEST = 3
"""Layers around which skips make a difference: below, an initializer does the same, unless the
layers are a bottleneck."""


class AddSkips:
    """Add each layer's input to its output, the branches scaled so that the stream stays bounded.

    ### What it changes
    Every linear and convolutional layer of a plain stack that keeps the shape of its input, except
    the last, becomes x + f(x), f being the layer with its normalization and activation; where
    widths change, f is two or three layers, so that the stream goes around a bottleneck. Where
    these narrow inside and give another shape than they read, into the model's output too, x passes
    by a projection p(x) + f(x): a linear layer without bias, for images a 1×1 convolution with
    their stride, which keeps the mean square. The last weights of the L branches are drawn 1/√L
    smaller than a plain stack needs, the scale of a normalization behind them is set to 1/√L.

    ### When it is offered
    When gradients vanish or explode, samples become indistinguishable or the short training does
    not learn, in models without a residual addition, around at least three layers or one that is
    narrower than those around it.

    ### Why it works
    The gradient at x + f(x) is that of x plus what comes through f: it cannot be lost through the
    identity, whatever f does. With branches of gain a/√L the squared gradient grows by at most
    (1 + a²/L)^L < e^(a²), and the layers need not learn to pass the signal on. A narrow layer lets
    no more through than it has units; a linear map beside it carries all that its ends have room
    for.

    ### Limits
    Changes what the network computes; trained weights have to be trained again. The scale stands in
    the weights, so it holds exactly for positively homogeneous activations (ReLU, leaky ReLU) and
    for small signals. A sigmoid's output is never negative, so the stream drifts with depth. What
    an activation or softmax ends gets no projection: nothing can be added behind it.

    ### References
    * He et al. 2015, arXiv:1512.03385 (eq. 2: projections); He et al. 2016, arXiv:1603.05027.
    * Hanin & Rolnick 2018, arXiv:1803.01719; Zhang et al. 2019, arXiv:1901.09321 (1/√L).
    * Balduzzi et al. 2017, arXiv:1702.08591, Shattered gradients.
    """

    kind = "residual"
    cures = frozenset(
        {"vanishing_gradient", "exploding_gradient", "rank_collapse", "narrow_layer", "untrainable"}
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        blocks = blocks_of(case) if codes and not case.branches() else ()
        projections = {b.end.name: b.projection for b in blocks if b.projection is not None}
        if sum(map(len, blocks)) < FEWEST and not any(block.narrows for block in blocks):
            return ()
        scale = len(blocks) ** -0.5
        draws = tuple(draw for block in blocks for draw in _draws(case, block, scale))
        new = tuple(projection.draw for projection in projections.values())
        names = tuple(block.end.name for block in blocks)
        change = {
            "branch_scale": significant(scale),
            "begins": {b.end.name: b.layers[0].name for b in blocks if len(b) > 1},
            **_said(projections),
            "scaled": _scaled(blocks, draws),
            **as_change((*draws, *new)),
        }
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=names,
                title=f"Add the input of {counted(names)} to the output (branch scale {scale:.3g})",
                why=_why(len(names), len(projections), scale),
                resolves=codes,
                change=change,
                patch=patch_of(case.architecture, {"kind": self.kind, "layers": names, **change}),
                code=source.draws(draws) + "\n" + _code(case, blocks),
            ),
        )


def _said(projections: Mapping[str, Projection]) -> dict[str, Any]:
    """By the last layer of their blocks; nothing where there is none."""
    said = {end: {"name": p.name, "type": p.type, "args": p.args} for end, p in projections.items()}
    return {"projections": said} if said else {}


def _why(blocks: int, projected: int, scale: float) -> str:
    way = "the identity"
    if projected:
        way = f"a linear map around {projected} and the identity around the others"
        way = way if projected < blocks else "a linear map"
    plural = "layers" if blocks > 1 else "layer"
    return (
        f"Around {blocks} {plural} the gradient passes by {way}; branches of 1/√{blocks} ="
        f" {scale:.3g} keep the stream within a factor of e over depth."
    )


def _draws(case: Case, block: Block, scale: float) -> tuple[Draw, ...]:
    """The branch's last scale is its last normalization's, where it has one."""
    *inner, last = block.layers
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
            Place(
                head=last.name == case.head(),
                branch_scale=1.0 if norms else scale,
                negative_slope=case.negative_slope(last),
            ),
        ),
        *(Draw(p.name, p.shape, "constant_", {"val": val}, rms=val) for p in norms),
    )


def _scaled(blocks: Sequence[Block], draws: tuple[Draw, ...]) -> list[str]:
    """The weights that carry the scale of their branch."""
    normalized = {draw.parameter for draw in draws if draw.function == "constant_"}
    ends = [block.end for block in blocks]
    free = [end for end in ends if not normalized & {p.name for p in end.parameters}]
    own = {p.name for end in free for p in own_parameters(end) if len(p.shape) > 1}
    return [draw.parameter for draw in draws if draw.parameter in own]


def _code(case: Case, blocks: Sequence[Block]) -> str:
    """Modules that follow one another are put into one that adds its input; where only the names
    of the weights are known, the sum has to be written into `forward`."""
    behind = _paths(case, blocks)
    if behind is None:
        return _in_forward(blocks)
    plain = [paths for block, paths in zip(blocks, behind, strict=True) if not block.projection]
    parts = []
    if plain:
        listed = ",\n    ".join(map(repr, plain))
        parts.append(_wrapping(SKIP, f"name, *rest in (\n    {listed},\n)", "Skip(*branch)"))
    led = [(b.projection, p) for b, p in zip(blocks, behind, strict=True) if b.projection]
    if led:
        listed = ",\n    ".join(f"({_made(one)}, {', '.join(map(repr, p))})" for one, p in led)
        each = f"projection, name, *rest in (\n    {listed},\n)"
        parts.append(_wrapping(SHORTCUT, each, "Shortcut(projection, *branch)"))
    return "\n".join(parts)


def _wrapping(module: str, each: str, made: str) -> str:
    return f"""{module}
for {each}:
    branch = map(model.get_submodule, (name, *rest))
    model.set_submodule(name, {made})
    for other in rest:
        model.set_submodule(other, nn.Identity())"""


def _made(projection: Projection) -> str:
    args = ", ".join(f"{name}={value!r}" for name, value in projection.args.items())
    return f"nn.{projection.type}({args})"


def _in_forward(blocks: Sequence[Block]) -> str:
    listed = [", ".join(layer.name for layer in block.layers) for block in blocks]
    lines = [
        f"#   {names}" + (f"; p = {_made(block.projection)}" if block.projection else "")
        for names, block in zip(listed, blocks, strict=True)
    ]
    told = "# in forward, x = x + f(x) for f each of these with what is behind it"
    if any(block.projection for block in blocks):
        told += ", p(x) + f(x) where there is a p"
    return "\n".join((f"{told}:", *lines))


def _paths(case: Case, blocks: Sequence[Block]) -> list[tuple[str, ...]] | None:
    """The modules of each block with what follows them; None where only `forward` can say it: a
    merge reads what follows, or a layer is used again."""
    if case.architecture is None:
        return None
    layers = case.architecture.layers
    nodes, readers = {node.name: node for node in layers}, readers_of(layers)
    if any(layer.name not in nodes for block in blocks for layer in block.layers):
        return None
    try:
        return [
            tuple(chain.from_iterable(path_of(readers, nodes[one.name]) for one in block.layers))
            for block in blocks
        ]
    except CannotSay:
        return None
