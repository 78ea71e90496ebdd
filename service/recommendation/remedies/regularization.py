"""Weight decay, where it calms the training."""

from __future__ import annotations

from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.training_effects import figures

DECAY = 0.01
"""torch.optim.AdamW's default."""


class DecayWeights:
    """Pull weights to zero a little at every step, where that makes the training calmer.

    ### What it changes
    The optimizer's groups: matrices and kernels get a weight decay of 0.01, normalizations and
    biases none.

    ### When it is offered
    When the short training shows gradient norms beyond five times their median, and the same
    training with the decay shows fewer or smaller ones and learns as much. It does nothing at step
    0 and is never said to cure what is wrong there.

    ### Why it works
    Large weights make large gradients of what lies behind them; what the data do not need decays.
    The scale of a normalization and a bias have no such effect, and pulling them to zero hurts.

    ### Limits
    A short training shows little of what it does over a long one; how much decay is best is for a
    validation set to say. Behind a normalization it acts on the effective learning rate alone.

    ### References
    * Krogh & Hertz 1991, A simple weight decay can improve generalization.
    * Loshchilov & Hutter 2019, arXiv:1711.05101. van Laarhoven 2017, arXiv:1706.05350.
    """

    kind = "regularization"
    cures: frozenset[str] = frozenset()

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        if case.trial is None:
            return ()
        seen = figures(case.trial)
        if not seen["spikes"] or not seen["learned"]:
            return ()
        return (
            Recommendation(
                id="",
                kind=self.kind,
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
