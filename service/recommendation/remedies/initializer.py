"""Draw the weights with the gain their place needs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from service.domain.measurements import LayerMeasurements, ParameterStatistics
from service.domain.recommendations import Recommendation
from service.recommendation import source, spec_patch
from service.recommendation.case import RECURRENT_OPS, Case
from service.recommendation.initialization import (
    LEAST_LOSS_GAINS,
    Draw,
    as_change,
    draws_for,
    has_formula,
    most_common,
    own_parameters,
    place_of,
)
from service.recommendation.wording import counted
from service.theory.nonlinearities import nonlinearity
from service.theory.propagation import gradient_profile

TOLERANCE = 1.1
"""A plain layer's weight may be off by this factor: over 20 layers it already makes 1.1²⁰ = 6.7."""
NORMALIZED_TOLERANCE = 4.0
"""The same where a normalization makes the scale harmless for signal and gradient; it still sets
the effective learning rate, which falls as 1/rms² (van Laarhoven 2017, arXiv:1706.05350)."""
HEAD_SMALLER, HEAD_LARGER = 5.0, 2.0
"""By how much the head may differ from 1/√fan_in: it is one factor, not one of many."""
PASSES_NOTHING = 1e-3
"""Share of the gradient that random weights of a layer's size would pass, below which its own are
not random: equal rows behind a cross-entropy, whose gradient sums to zero over the classes."""
LOST = 1e-2
"""A stack whose predicted total gain stays below this is not cured by an initializer."""


class Reinitialize:
    """Draw weights and biases so that signal and gradient keep their size from layer to layer.

    ### What it changes
    The initialization of the layers whose weights are off: `kaiming_normal_` before ReLU and leaky
    ReLU, `orthogonal_` with gain 1 before tanh, ELU, softsign, hardtanh or nothing, `normal_` with
    σ_w/√fan_in and biases of σ_b before GELU (1.408, 0.416), SiLU (1.410, 0.745), Mish and
    Hardswish, LeCun's 1/√fan_in before SELU, by the measured gain before an activation that no
    formula covers; gain 1 for the last layer; 1/√L smaller for the last layer of each of L residual
    branches; `orthogonal_` for `weight_hh` of recurrent layers, input weights 1/√T smaller and no
    bias for an RNN over T steps, a forget gate bias of 1 for LSTM. Layers that are right stay as
    they are; weights of the right size that pass nothing of the gradient, as a constant fill does
    before a cross-entropy, are not right.

    ### When it is offered
    When gradients vanish or explode, values overflow, the activation scale drifts, units are
    symmetric, saturated or dead, samples become indistinguishable, the loss starts far from
    chance, or the short training does not learn, and at least one layer is off. Not for a plain
    stack of sigmoid or softplus that theory says no initialization saves, unless its units are
    symmetric.

    ### Why it works
    One layer multiplies the squared gradient by χ₁ = σ_w² E[φ'(√q z)²] and moves the mean square q
    of the signal to σ_w² E[φ(√q z)²] + σ_b². The gains used solve χ₁ = 1 at a fixed point.
    PyTorch's default, kaiming_uniform_(a=√5), has σ_w² = 1/3: through ReLU every layer passes
    0.41 of the gradient, through GELU 0.29.

    ### Limits
    Trained weights are lost. Sigmoid and softplus have no critical point: replace or normalize
    them. The formulas are for wide layers; at width n and depth L the logarithm of the squared
    gain still varies by about 5 L/n for ReLU from one draw to the next.

    ### References
    * Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward networks.
    * He et al. 2015, arXiv:1502.01852. Saxe et al. 2014, arXiv:1312.6120.
    * Klambauer et al. 2017, arXiv:1706.02515. Schoenholz et al. 2017, arXiv:1611.01232.
    * Roberts, Yaida & Hanin 2022, The Principles of Deep Learning Theory, §5.
    * Jozefowicz et al. 2015, An empirical exploration of recurrent network architectures.
    """

    kind = "initializer"
    cures = frozenset(
        {
            "vanishing_gradient",
            "exploding_gradient",
            "nonfinite_values",
            "poor_initialization",
            "symmetric_initialization",
            "saturated_activation",
            "dead_units",
            "rank_collapse",
            "initial_loss_off",
            "fading_memory",
            "untrainable",
        }
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        draws = tuple(needed_draws(case)) if codes and _worth_it(case) else ()
        if not draws:
            return ()
        main = most_common(draws)
        layers = _layers_of(case, draws)
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=layers,
                title=f"Initialize {counted(layers)} with {_shown(main)}",
                why=_why(case, main),
                resolves=codes,
                change=as_change(draws),
                patch=spec_patch.initialize(case.architecture, draws)
                if case.architecture
                else None,
                code=source.draws(draws),
            ),
        )


def needed_draws(case: Case) -> Iterable[Draw]:
    """New draws for the layers whose parameters are off."""
    symmetric = case.layers_with("symmetric_initialization")
    for layer in case.measurements.layers:
        if "#" in layer.name:
            continue
        draws = draws_for(layer, place_of(case, layer))
        # The size of a recurrent weight does not tell whether it is orthogonal.
        forced = layer.name in symmetric or layer.op in RECURRENT_OPS or _passes_nothing(layer)
        if forced or any(_is_off(case, layer, draw) for draw in draws):
            yield from (draw for draw in draws if forced or _differs(layer, draw))


def _is_off(case: Case, layer: LayerMeasurements, draw: Draw) -> bool:
    """Is a weight, or a bias that has to be random, of the wrong size?"""
    now = _statistics(layer, draw).rms
    if draw.rms == 0.0:
        return False
    if now is None:
        return True
    if now == 0.0:  # a branch or head that starts at zero is a choice
        return not (layer.residual or layer.name == case.head())
    low = high = NORMALIZED_TOLERANCE if layer.normalization else TOLERANCE
    if layer.name == case.head():
        low, high = HEAD_SMALLER, HEAD_LARGER
    if layer.op == "embedding":
        low, high = 100.0, NORMALIZED_TOLERANCE
    return not draw.rms / low <= now <= draw.rms * high


def _passes_nothing(layer: LayerMeasurements) -> bool:
    """Weights of the right size, in which the gradient that comes is lost all the same."""
    passed = (layer.gradient.gain_parts or {}).get("weight")
    weight = max(own_parameters(layer), key=lambda p: len(p.shape), default=None)
    if passed is None or weight is None or not weight.rms or not layer.fan_in:
        return False
    return passed < PASSES_NOTHING * weight.rms * math.sqrt(layer.fan_in)


def _differs(layer: LayerMeasurements, draw: Draw) -> bool:
    return draw.rms != 0.0 or _statistics(layer, draw).rms != 0.0


def _statistics(layer: LayerMeasurements, draw: Draw) -> ParameterStatistics:
    return next(p for p in own_parameters(layer) if p.name == draw.parameter)


def _worth_it(case: Case) -> bool:
    """False for plain stacks that no initialization saves, unless their units are symmetric."""
    lossy = [
        layer.nonlinearity
        for layer in case.matrices()
        if layer.nonlinearity in LEAST_LOSS_GAINS
        and layer.name != case.head()
        and not (layer.normalization or layer.residual)
    ]
    if not lossy or case.layers_with("symmetric_initialization"):
        return True
    phi = nonlinearity(lossy[0])
    variance = LEAST_LOSS_GAINS[lossy[0]] ** 2
    return phi is not None and (
        math.prod(gradient_profile(phi, variance, variance, 0.0, len(lossy))) > LOST
    )


def _layers_of(case: Case, draws: tuple[Draw, ...]) -> tuple[str, ...]:
    drawn = {draw.parameter for draw in draws}
    return tuple(
        layer.name
        for layer in case.measurements.layers
        if "#" not in layer.name and any(p.name in drawn for p in layer.parameters)
    )


def _shown(draw: Draw) -> str:
    gain = "" if draw.gain is None else f" (gain {draw.gain:.4g})"
    return f"{draw.function}{gain}"


def _why(case: Case, main: Draw) -> str:
    layer = next(
        layer
        for layer in case.measurements.layers
        if any(p.name == main.parameter for p in layer.parameters)
    )
    now, behind = _statistics(layer, main).rms, layer.nonlinearity or "no activation"
    if now is None or not layer.fan_in or main.gain is None:
        return f"Fresh values replace what is not finite or not random in {layer.name}."
    measured = now * math.sqrt(layer.fan_in)
    passed = "" if layer.gradient.gain is None else f", and it passes {layer.gradient.gain:.2g}x"
    default = (
        " That is PyTorch's default, kaiming_uniform_(a=√5), whose weight variance is 1/(3·fan_in)."
        if math.isclose(measured, math.sqrt(1 / 3), rel_tol=0.05)
        else ""
    )
    best = (
        f"no gain keeps the gradient before {behind}, and {main.gain:.4g} loses least"
        if behind in LEAST_LOSS_GAINS
        else f"no formula covers {behind}; by what was measured {main.gain:.4g} passes it whole"
        if layer.nonlinearity and not has_formula(layer.nonlinearity)
        else f"before {behind} signal and gradient keep their size at {main.gain:.4g}"
    )
    if layer.residual:
        best += f", one of {case.branches()} branches"
    return f"{layer.name} has gain {measured:.3g} (rms·√fan_in){passed}; {best}.{default}"
