"""Train the layers one by one before the whole, where their activation has to stay."""

from __future__ import annotations

from contextlib import suppress

from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.remedies.activation import SQUASHING
from service.recommendation.spec_editing import CannotSay
from service.recommendation.spec_structure import path_of, readers_of
from service.recommendation.wording import counted

STEPS = 100
"""Of each layer."""
MOST_STEPS = 4000
"""Of all layers together."""
RATE = 0.03
"""Adam's."""
CODE = """import torch

def keep(layer, x, steps={steps}, lr={lr}):
    \"\"\"Train a layer to keep what x says; returns what it says itself.\"\"\"
    decoder = nn.Linear(layer(x[:2]).shape[-1], x.shape[-1])
    optimizer = torch.optim.Adam([*layer.parameters(), *decoder.parameters()], lr=lr)
    for _ in range(steps):
        rows = x[torch.randint(len(x), (64,))]
        loss = nn.functional.mse_loss(decoder(layer(rows)), rows) / rows.var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer(x).detach()

# x: the training inputs, (samples, features)
for names in (
    {paths},
):
    x = keep(nn.Sequential(*map(model.get_submodule, names)), x)"""


class PretrainLayers:
    """Train each layer by itself, from the first on, to keep what it is told; then the whole.

    ### What it changes
    The initial weights of the hidden layers of a stack of linear layers: each is trained for 100
    steps, with a linear decoder that is thrown away, to give its own input back. The network stays
    as it is: the repaired weights carry the change, and the repaired spec needs them.

    ### When it is offered
    When gradients vanish through sigmoid, tanh or their kin, they are saturated, samples become
    indistinguishable or the short training does not learn, and the request does not allow the
    activation to be changed.

    ### Why it works
    No gradient has to pass more than one layer: each is trained by an error of its own. What comes
    out keeps the input's information through every layer, so the last one has something to read.

    ### Limits
    Another activation, initialization or a normalization does more at no cost: `docs/cures.md` has
    the comparison. A deep stack of sigmoids stays hard to train as a whole. Without data in the
    request the layers are trained on drawn inputs, which have no structure to find.

    ### References
    * Hinton, Osindero & Teh 2006, A fast learning algorithm for deep belief nets.
    * Bengio et al. 2007, Greedy layer-wise training of deep networks. Erhan et al. 2010, Why does
      unsupervised pre-training help deep learning? Glorot et al. 2011, Deep sparse rectifier
      neural networks (rectifiers do without).
    """

    kind = "pretraining"
    cures = frozenset(
        {"vanishing_gradient", "saturated_activation", "rank_collapse", "untrainable"}
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        layers = _stack(case) if codes and "activation" not in case.allowed else ()
        if not layers:
            return ()
        names = tuple(layer.name for layer in layers)
        steps = min(STEPS, MOST_STEPS // len(names))
        worn = SQUASHING[str(layers[0].nonlinearity)]
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=names,
                title=f"Pre-train {counted(names)} one by one",
                why=f"The gradient of the whole does not reach the first layers through {worn},"
                " which has to stay; each layer's own error does.",
                resolves=codes,
                change={"task": "autoencoder", "steps": steps, "optimizer": "adam", "lr": RATE},
                code=_code(case, names, steps),
            ),
        )


def _stack(case: Case) -> tuple[LayerMeasurements, ...]:
    """The hidden layers of a plain stack of linear ones with a flattening activation; else ()."""
    hidden = tuple(layer for layer in case.measurements.layers if layer.name != case.head())
    plain = case.branches() == 0 and all(
        layer.op == "linear" and "#" not in layer.name and layer.depth == place
        for place, layer in enumerate(hidden, start=1)
    )
    return hidden if plain and hidden and hidden[0].nonlinearity in SQUASHING else ()


def _code(case: Case, names: tuple[str, ...], steps: int) -> str:
    paths: list[tuple[str, ...]] = [(name,) for name in names]
    if case.architecture is not None:
        nodes = {node.name: node for node in case.architecture.layers}
        with suppress(CannotSay):
            readers = readers_of(case.architecture.layers)
            paths = [path_of(readers, nodes[name]) for name in names]
    told = ",\n    ".join(map(repr, paths))
    behind = "" if len(paths[0]) > 1 else "# with each name, those of the activation behind it\n"
    return behind + CODE.format(steps=steps, lr=RATE, paths=told)
