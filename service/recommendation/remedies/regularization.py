"""Less dropout where it drowns the signal; weight decay where it calms the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.repaired import patch_of
from service.recommendation.training_effects import figures
from service.recommendation.wording import counted

DECAY = 0.01
"""torch.optim.AdamW's default."""
SIGNAL = 0.5
"""Share of the last layer's output that dropout should leave to the input: as much signal as noise.
One dropout alone may then hide a half, the rate of Srivastava et al. 2014 (§A.4)."""


class Regularize:
    """Hide less by dropout; pull weights to zero a little at every step.

    ### What it changes
    Dropout: every one that hides more than a limit is brought down to it, those of attention and
    recurrent layers too. The limit p is the largest with Π (1 - min(p_i, p)) ≥ 1/2 over all
    dropouts, 0.5 for one, 0.2 for three, 0.06 for ten. Weight decay: the optimizer's groups;
    matrices and kernels get 0.01, normalizations and biases none.

    ### When it is offered
    Dropout: when it drowns the signal, or it hides more than that and the short training does not
    learn. Weight decay: when the short training shows gradient norms beyond five times their
    median, and the same training with the decay shows fewer or smaller ones and learns as much; it
    does nothing at step 0 and is never said to cure what is wrong there.

    ### Why it works
    A dropout leaves 1 - p of the output's variance to the sample and gives p to its mask; one after
    the other multiply. Where little is left, gradients point elsewhere at every step and their mean
    is nothing. Large weights make large gradients of what lies behind them; what the data do not
    need decays. The scale of a normalization and a bias have no such effect.

    ### Limits
    A dropout is there against overfitting, which no short training shows: raise it again as far as
    training allows. Layers learn to say things several times over and bear more than is counted
    here. How much weight decay is best is for a validation set to say, too; behind a normalization
    it acts on the effective learning rate alone.

    ### References
    * Srivastava et al. 2014, Dropout. Schoenholz et al. 2017, arXiv:1611.01232, §5.
    * Krogh & Hertz 1991, A simple weight decay can improve generalization.
    * Loshchilov & Hutter 2019, arXiv:1711.05101. van Laarhoven 2017, arXiv:1706.05350.
    """

    kind = "regularization"
    cures = frozenset({"drowned_signal", "untrainable"})

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        return (*_less_dropout(case), *_decay(case))


def _less_dropout(case: Case) -> tuple[Recommendation, ...]:
    codes = case.codes(Regularize.cures)
    layers = [layer for layer in case.measurements.layers if layer.dropout]
    rates = [p for layer in layers for p in layer.dropout]
    most = _most(rates) if codes else 1.0
    names = tuple(layer.name for layer in layers if max(layer.dropout) > most)
    if not names:
        return ()
    change: dict[str, Any] = {"dropout": most, "replaces": max(rates)}
    left = math.prod(1.0 - p for p in rates)
    return (
        Recommendation(
            id="",
            kind=Regularize.kind,
            layers=names,
            title=f"Lower dropout to {most:g} at {counted(names)}",
            why=f"{len(rates)} dropouts, the largest of {max(rates):g}, leave {left:.2g} of what"
            f" passes to the input; at {most:g} they leave a half.",
            resolves=codes,
            change=change,
            patch=patch_of(case.architecture, {"kind": Regularize.kind, **change}),
            code="for module in model.modules():\n"
            "    if isinstance(module, nn.modules.dropout._DropoutNd):\n"
            f"        module.p = min(module.p, {most!r})\n"
            "    elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):\n"
            f"        module.dropout = min(module.dropout, {most!r})",
        ),
    )


def _most(rates: Sequence[float]) -> float:
    """The largest p that leaves a half when no rate is above it, in hundredths; 1 when they leave
    it as they are."""
    left = math.log(SIGNAL)
    for number, rate in enumerate(sorted(rates)):
        level = 1.0 - math.exp(left / (len(rates) - number))
        if rate >= level:
            return max(math.floor(100.0 * level + 1e-9), 1) / 100.0
        left -= math.log1p(-rate)
    return 1.0


def _decay(case: Case) -> tuple[Recommendation, ...]:
    if case.trial is None:
        return ()
    seen = figures(case.trial)
    if not seen["spikes"] or not seen["learned"]:
        return ()
    return (
        Recommendation(
            id="",
            kind=Regularize.kind,
            layers=(),
            title=f"Decay weights by {DECAY:g}, not biases and normalizations",
            why=f"In the short training {seen['spikes']} steps had a gradient norm beyond five"
            f" times the median, the largest {seen['largest_spike']:.3g} times.",
            resolves=(),
            change={"weight_decay": DECAY, "spares": "parameters of one dimension"},
            code="decayed = [p for p in model.parameters() if p.ndim > 1]\n"
            "spared = [p for p in model.parameters() if p.ndim <= 1]\n"
            "groups = [\n"
            f"    {{'params': decayed, 'weight_decay': {DECAY!r}}},\n"
            "    {'params': spared, 'weight_decay': 0.0},\n"
            "]  # for torch.optim.AdamW or SGD",
        ),
    )
