"""Exchange the activation for one that passes the gradient."""

from __future__ import annotations

from dataclasses import replace

from service.domain.architecture import LayerNode
from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation import source, spec_patch
from service.recommendation.case import Case
from service.recommendation.initialization import Draw, Place, as_change, draws_for
from service.recommendation.repaired import repaired
from service.recommendation.wording import counted
from service.theory.gains import critical_point

SQUASHING = {
    "sigmoid": "Sigmoid",
    "hardsigmoid": "Hardsigmoid",
    "logsigmoid": "LogSigmoid",
    "softplus": "Softplus",
    "tanh": "Tanh",
    "hardtanh": "Hardtanh",
    "softsign": "Softsign",
}
"""Activations that flatten, by their torch.nn class: replaceable in any stack."""
ONE_SIDED = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "selu": "SELU",
}
"""Activations that pass one side: replaceable where the stack is long."""
CLASSES = SQUASHING | ONE_SIDED
SUCCESSORS = {"relu": "ReLU", "elu": "ELU", "gelu": "GELU", "leaky_relu": "LeakyReLU"}
"""What may take their place."""
OPEN_LOSSES = frozenset(
    {"cross_entropy", "bce_with_logits", "mse", "l1", "smooth_l1", "output_mean_square"}
)
"""Losses whose input may be any real number."""
LOGIT_LOSSES = frozenset({"cross_entropy", "bce_with_logits"})
"""Losses that squash their input themselves."""
FREED = {
    "relu": ("ReLU", OPEN_LOSSES),
    "softmax": ("Softmax", LOGIT_LOSSES),
    "sigmoid": ("Sigmoid", LOGIT_LOSSES),
    "tanh": ("Tanh", LOGIT_LOSSES),
}
"""Last operations, their torch.nn class, and the losses in front of which they are taken away."""
OF_OUTPUT = {"output_loss_mismatch"}
"""Findings about the output alone: nothing inside needs another activation for them."""
NOISE = 2.0
"""Variance of the log squared gain over initializations, about Σ 5/fan_in for ReLU (Hanin & Nica
2018, arXiv:1812.05994), from which a draw is good or bad by chance."""
LONG = 20
"""Hidden layers from which samples grow alike behind one-sided activations, normalized or not."""


class ReplaceActivation:
    """Exchange the activation for one whose derivative does not shrink the gradient.

    ### What it changes
    Sigmoid, softplus, tanh and their kin become ReLU in short stacks and ELU in long, narrow or
    normalized ones (GELU next to attention); in long or narrow plain stacks ReLU, GELU and their
    kin become ELU; ReLU whose units are dead becomes leaky ReLU. The layers in front are drawn
    again with the gain of the new activation. The activation of the output layer stays, except in
    front of a loss that takes logits, or behind a ReLU any number: there it is taken away.

    ### When it is offered
    When gradients vanish or explode through such activations, they are saturated, samples become
    indistinguishable or the short training does not learn; leaky ReLU when units are dead.

    ### Why it works
    The sigmoid's derivative is at most 1/4, so every layer loses, whatever the weights: it has no
    critical initialization, nor has softplus. ReLU has derivative 1 on half of its inputs, and
    weights of variance 2/fan_in make up for the other half on average. ELU is nearly linear for
    the small signals of a deep stack: with orthogonal weights it keeps both lengths and angles,
    where ReLU's gain fluctuates (variance of its log square Σ 5/fan_in) and its samples align.

    ### Limits
    Changes what the network computes; trained weights have to be trained again. In a module whose
    `forward` calls torch.sigmoid itself there is no submodule to exchange: change the call.

    ### References
    * Glorot et al. 2011, Deep sparse rectifier neural networks. He et al. 2015, arXiv:1502.01852.
    * Clevert et al. 2016, arXiv:1511.07289. Hanin & Nica 2018, arXiv:1812.05994.
    * Hendrycks & Gimpel 2016, arXiv:1606.08415. Maas et al. 2013, Rectifier nonlinearities improve
      neural network acoustic models.
    """

    kind = "activation"
    cures = frozenset(
        {
            "vanishing_gradient",
            "exploding_gradient",
            "saturated_activation",
            "rank_collapse",
            "untrainable",
            "dead_units",
            "output_loss_mismatch",
        }
    )

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        codes = case.codes(self.cures)
        if not codes:
            return ()
        worn = {layer.nonlinearity for layer in _hidden(case)} if set(codes) != OF_OUTPUT else set()
        return _freed_output(case, codes) + tuple(
            _exchange(case, old, new, codes)
            for old in CLASSES
            if old in worn and (new := _successor(case, old, codes))
        )


def _freed_output(case: Case, codes: tuple[str, ...]) -> tuple[Recommendation, ...]:
    """The output without the activation that keeps it from the numbers its loss takes."""
    model, name = case.measurements.model, case.head()
    old, losses = FREED.get(model.output_op or "", ("", frozenset()))
    if model.loss not in losses or name is None:
        return ()
    if case.measurements.layers[-1].name != name:
        return ()
    change: dict[str, object] = {"activation": "Identity", "replaces": old}
    names = (name,)
    module = _last(case, old)
    return (
        Recommendation(
            id="",
            kind=ReplaceActivation.kind,
            layers=names,
            title=f"Take the {old} off the output",
            why=_why_freed(model.loss, old),
            resolves=codes,
            change=change,
            patch=_patch(case, names, change),
            code=source.replace_modules([module], "nn.Identity()")
            if module
            else f"# in forward: return what {name} gives, without the {old}",
        ),
    )


def _why_freed(loss: str, old: str) -> str:
    if old == "ReLU":
        return (
            f"{loss} takes any number; behind a ReLU the output cannot fall below 0, and where it "
            "is 0 nothing is learned."
        )
    return (
        f"{loss} takes logits and squashes them itself: behind another {old} the scores stay close "
        "together, and where they lie at its ends nothing is learned."
    )


def _last(case: Case, kind: str) -> str | None:
    """The spec's own layer that is the activation of this kind at its end."""
    nodes = case.architecture.layers if case.architecture else ()
    behind = [node.name for node in nodes if node.type == kind]
    return behind[-1] if behind else None


def _hidden(case: Case) -> tuple[LayerMeasurements, ...]:
    return tuple(layer for layer in case.matrices() if layer.name != case.head())


def _exchange(case: Case, old: str, new: str, codes: tuple[str, ...]) -> Recommendation:
    layers = tuple(layer for layer in _hidden(case) if layer.nonlinearity == old)
    draws = tuple(draw for layer in layers for draw in _draws(case, layer, new))
    nodes = _nodes(case, CLASSES[old])
    names = tuple(layer.name for layer in layers)
    change = {
        "activation": SUCCESSORS[new],
        "replaces": CLASSES[old],
        **(as_change(draws) if draws else {}),
    }
    return Recommendation(
        id="",
        kind=ReplaceActivation.kind,
        layers=names,
        title=f"Replace {CLASSES[old]} by {SUCCESSORS[new]} after {counted(names)}",
        why=_why(old, new, layers),
        resolves=("dead_units",) if new == "leaky_relu" else codes,
        change=change,
        patch=_patch(case, names, change),
        code="\n".join(
            part for part in (_code(case, old, new, nodes), source.draws(draws)) if part
        ),
    )


def _successor(case: Case, old: str, codes: tuple[str, ...]) -> str | None:
    """What takes the place of an activation; None when it should stay."""
    if old == "relu" and "dead_units" in codes:
        return "leaky_relu"
    if any(layer.op == "attention" for layer in case.measurements.layers):
        return "gelu" if old in SQUASHING else None
    hidden = _hidden(case)
    noise = sum(5.0 / layer.fan_in for layer in hidden if layer.fan_in)
    long = case.branches() == 0 and (len(hidden) > LONG or noise > NOISE)
    if old in ONE_SIDED:
        return "elu" if long else None
    return "elu" if long or any(layer.normalization for layer in hidden) else "relu"


def _draws(case: Case, layer: LayerMeasurements, new: str) -> tuple[Draw, ...]:
    scale = case.branches() ** -0.5 if layer.residual else 1.0
    return draws_for(replace(layer, nonlinearity=new), Place(branch_scale=scale))


def _nodes(case: Case, old_class: str) -> tuple[LayerNode, ...]:
    """The activation layers of the spec to exchange: all of the class but the output's."""
    if case.architecture is None:
        return ()
    nodes = case.architecture.layers
    names = [node.name for node in nodes]
    head = case.head()
    end = names.index(head) if head in names else len(nodes)
    return tuple(node for node in nodes[:end] if node.type == old_class)


def _patch(
    case: Case, names: tuple[str, ...], change: dict[str, object]
) -> spec_patch.Patch | None:
    if case.architecture is None:
        return None
    said = repaired(case.architecture, [{"kind": "activation", "layers": names, **change}])
    return said.patch if said else None


def _code(case: Case, old: str, new: str, nodes: tuple[LayerNode, ...]) -> str:
    made = f"nn.{SUCCESSORS[new]}()"
    if nodes:
        return source.replace_modules([node.name for node in nodes], made)
    last_stays = "[:-1]" if case.measurements.model.output_op == old else ""
    return (
        f"old = [n for n, m in model.named_modules() if isinstance(m, nn.{CLASSES[old]})]"
        f"{last_stays}\nfor name in old:\n    model.set_submodule(name, {made})"
    )


def _why(old: str, new: str, layers: tuple[LayerMeasurements, ...]) -> str:
    if new == "leaky_relu":
        return (
            "A ReLU unit that is zero on every input gets no gradient and never comes back; leaky"
            " ReLU passes 0.01 of it."
        )
    if old in ONE_SIDED:
        return (
            f"Over {len(layers)} layers the gain of {CLASSES[old]} varies from draw to draw and"
            " samples grow alike; ELU with orthogonal weights keeps lengths and angles."
        )
    gains = sorted(layer.gradient.gain for layer in layers if layer.gradient.gain is not None)
    measured = f" {gains[len(gains) // 2]:.2g}x of the gradient a layer" if gains else " too little"
    point = "no initialization" if critical_point(old) is None else "only a narrow range of weights"
    return (
        f"{CLASSES[old]} passes{measured} (median), and {point} keeps it over depth;"
        f" {SUCCESSORS[new]} with its own initialization does."
    )
