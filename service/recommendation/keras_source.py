"""The same advice in Keras's words, for a model that came as Keras: what `code` says then.

`model` is the caller's built model, `optimizer` its optimizer before `model.compile`, `keras` Keras
3. Layers keep their names on the way into a spec, but for what is added for one of their arguments:
the activation `sigmoid` of `fc` is the layer `fc_sigmoid` there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from service.domain.architecture import Architecture, LayerNode
from service.domain.keras.activations import ALIKE, STEEPER
from service.domain.keras.graph import HELD, WITHIN
from service.domain.recommendations import Recommendation
from service.recommendation.repaired import Following
from service.recommendation.source import listed

Change = Mapping[str, Any]
Nodes = Mapping[str, LayerNode]
_NAMED_AT_NEED = {"Identity": "linear", "LeakyReLU": "leaky_relu"}
_FUNCTIONS = {new: old for old, (new, _) in reversed(tuple(ALIKE.items()))} | _NAMED_AT_NEED
"""Keras's function by the class in torch.nn."""
_SCALES = {"weight": "gamma", "bias": "beta"}
_OUT = ".out_proj"
_RECURRENT = frozenset({"RNN", "GRU", "LSTM"})
_PRETRAIN = """x = inputs  # of the training
for name in ({names}):
    layer = model.get_layer(name)
    coder = keras.Sequential([layer, keras.layers.Dense(x.shape[-1])])
    coder.compile(optimizer=keras.optimizers.Adam({lr!r}), loss="mse")
    coder.fit(x, x, batch_size=64, epochs=max(1, {steps} * 64 // len(x)))
    x = keras.Sequential([layer]).predict(x)"""


def in_keras(one: Recommendation, architecture: Architecture) -> str:
    """Keras source for a recommendation on the spec that a Keras model was translated to."""
    nodes = {node.name: node for node in architecture.layers}
    parts = [_SAID.get(one.kind, _nothing)(one, architecture), _draws(one.change, nodes)]
    return "\n".join(part for part in parts if part)


def _nothing(_one: Recommendation, _architecture: Architecture) -> str:
    return ""


def _draws(change: Change, nodes: Nodes) -> str:
    """Values assigned to the variables that exist; layers that get the same share a loop."""
    statements: dict[str, list[str]] = {}
    for draw in change.get("parameters", ()):
        owner, _, leaf = str(draw["parameter"]).rpartition(".")
        if owner.endswith(_OUT) and owner.removesuffix(_OUT) in nodes:
            owner, leaf = owner.removesuffix(_OUT), f"out_proj.{leaf}"
        if owner not in nodes or (nodes[owner].type == "LSTM" and leaf.startswith("bias_hh")):
            continue  # Keras adds one bias, which is that of the gates' inputs
        layer = owner.removesuffix("_depthwise")
        said = _assigned(draw, nodes[owner], leaf, nodes)
        if said not in statements.setdefault(layer, []):
            statements[layer].append(said)
    groups: dict[tuple[str, ...], list[str]] = {}
    for layer, told in statements.items():
        groups.setdefault(tuple(told), []).append(layer)
    return "\n".join(_for_each(layers, *told) for told, layers in groups.items())


def _for_each(layers: Sequence[str], *statements: str) -> str:
    if len(layers) == 1:
        return "\n".join((f"layer = {_got(layers[0])}", *statements))
    body = "".join(f"\n    {statement}" for statement in statements)
    if any(WITHIN in name for name in layers):
        return f"for layer in ({', '.join(map(_got, layers))}):{body}"
    return f"for name in ({listed(layers)}):\n    layer = model.get_layer(name){body}"


def _got(name: str) -> str:
    """A layer, of a nested model or of a TimeDistributed too."""
    path, held, _ = name.partition(HELD)
    found = "".join(f".get_layer({part!r})" for part in path.split(WITHIN))
    return f"model{found}{'.layer' if held else ''}"


def _assigned(draw: Change, node: LayerNode, leaf: str, nodes: Nodes) -> str:
    if leaf == "in_proj_weight":
        each = _initializer(draw, node, leaf)
        dense = "(layer.query_dense, layer.key_dense, layer.value_dense)"
        return f"[one.kernel.assign({each}(one.kernel.shape)) for one in {dense}]"
    variable = _variable(node, leaf, nodes)
    if draw["initializer"] == "forget_gate_":
        gates = f"[0.0] * layer.units + [{draw['args']['val']!r}] * layer.units"
        return f"{variable}.assign({gates} + [0.0] * 2 * layer.units)"
    return f"{variable}.assign({_initializer(draw, node, leaf)}({variable}.shape))"


def _variable(node: LayerNode, leaf: str, nodes: Nodes) -> str:
    """Where Keras keeps a parameter of torch."""
    if node.type in _RECURRENT:
        cell = "layer.cell"
        if node.args.get("bidirectional"):
            way = "backward" if leaf.endswith("_reverse") else "forward"
            cell = f"layer.{way}_layer.cell"
        kinds = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel"}
        return f"{cell}.{kinds.get(leaf[:9], 'bias')}"
    if "Norm" in node.type:
        return f"layer.{_SCALES[leaf]}"
    if node.type == "Embedding":
        return "layer.embeddings"
    if leaf == "out_proj.weight":
        return "layer.output_dense.kernel"
    if leaf == "bias":
        return "layer.bias"
    if node.name.endswith("_depthwise"):
        return "layer.depthwise_kernel"
    return f"layer.{'pointwise_' if f'{node.name}_depthwise' in nodes else ''}kernel"


def _initializer(draw: Change, node: LayerNode, leaf: str) -> str:
    """The initializer of the same variance: Keras cuts its normal ones, and counts the fans of a
    depthwise kernel otherwise."""
    function, args, gain = draw["initializer"], draw["args"], draw.get("gain")
    if function == "kaiming_normal_" and gain is not None:
        if node.args.get("groups", 1) > 1:
            std = gain / math.sqrt(math.prod(node.parameters[leaf][1:]))
            return f"keras.initializers.RandomNormal(stddev={std:.6g})"
        named = {"relu": "HeNormal()", "linear": "LecunNormal()"}.get(args.get("nonlinearity"))
        scaling = f"VarianceScaling(scale={gain**2:.6g}, mode='fan_in')"
        return f"keras.initializers.{named or scaling}"
    argument = {
        "orthogonal_": "Orthogonal(gain={gain!r})",
        "normal_": "RandomNormal(stddev={std!r})",
        "constant_": "Constant({val!r})",
        "zeros_": "Zeros()",
        "ones_": "Ones()",
    }[function]
    return f"keras.initializers.{argument.format(**{'gain': 1.0, **args})}"


def _activation(one: Recommendation, architecture: Architecture) -> str:
    """Functions that an argument names are exchanged; layers of their own have to be rebuilt."""
    following = Following(architecture, str(one.change["replaces"]))
    found = dict.fromkeys(following.activation_of(name) for name in one.layers)
    function = _FUNCTIONS[str(one.change["activation"])]
    owners = [name.removesuffix(f"_{said}") for name in found for said in _suffix(name)]
    own = [name for name in found if not any(_suffix(name))]
    new = f"keras.activations.{function}"
    if function == "leaky_relu":  # Keras's own slope is 0.2
        new = f"lambda x: {new}(x, negative_slope=0.01)"
    parts = [_for_each(owners, f"layer.activation = {new}")] if owners else []
    if own:
        parts.append(f"# in place of {listed(own)}:\n# keras.layers.Activation({new})")
    return "\n".join(parts)


def _suffix(name: str) -> Iterator[str]:
    """The function that an argument named, where this layer of the spec was added for it."""
    named = sorted((*ALIKE, *STEEPER), key=len, reverse=True)
    ends = (said for said in named if name.endswith(f"_{said}"))
    yield from list(ends)[:1]


def _normalization(one: Recommendation, _architecture: Architecture) -> str:
    made: dict[str, list[str]] = {}
    for entry in one.change["layers"]:
        made.setdefault(_normalizing(entry), []).append(str(entry["after"]))
    return "\n".join(
        f"# after each of {listed(names)}, built with activation=None, and before its"
        f" activation:\nx = {new}(x)"
        for new, names in made.items()
    )


def _normalizing(entry: Change) -> str:
    """With torch's epsilon and momentum, as it was measured."""
    if entry["type"] == "GroupNorm":
        groups = entry["args"]["num_groups"]
        return f"keras.layers.GroupNormalization(groups={groups}, epsilon=1e-5)"
    if entry["type"] == "LayerNorm":
        return "keras.layers.LayerNormalization(epsilon=1e-5)"
    return "keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)"


def _residual(one: Recommendation, _architecture: Architecture) -> str:
    begins, maps = one.change.get("begins", {}), one.change.get("projections", {})
    plain = [_block(name, begins) for name in one.layers if name not in maps]
    parts = [_around(plain, "x")] if plain else []
    parts += [_around([_block(end, begins)], f"{_linear(maps[end])}(x)") for end in maps]
    return "\n".join(parts)


def _block(last: str, begins: Mapping[str, str]) -> str:
    return f"{begins[last]} … {last}" if last in begins else last


def _around(blocks: Sequence[str], way: str) -> str:
    return (
        f"# f: each of {listed(blocks)} with what is behind it\n"
        f"x = keras.layers.Add()([{way}, f(x)])"
    )


def _linear(projection: Change) -> str:
    """A layer without bias that keeps the mean square."""
    args, way = projection["args"], 'use_bias=False, kernel_initializer="lecun_normal"'
    if projection["type"] == "Linear":
        return f"keras.layers.Dense({args['out_features']}, {way})"
    return (
        f"keras.layers.{projection['type'].replace('d', 'D')}({args['out_channels']}, 1,"
        f" strides={tuple(args['stride'])}, {way})"
    )


def _recurrent_cell(one: Recommendation, architecture: Architecture) -> str:
    names = {node.name for node in architecture.layers}
    lines = []
    for name in one.layers:
        args = one.change["cell_args"][name]
        whole = f"{name}_last" not in names
        new = f"keras.layers.{one.change['cell']}({args['hidden_size']}, return_sequences={whole})"
        new = f"keras.layers.Bidirectional({new})" if args["bidirectional"] else new
        lines.append(f"# in place of {name!r}, and built again before what follows:\nx = {new}(x)")
    return "\n".join(lines)


def _input_scaling(_one: Recommendation, _architecture: Architecture) -> str:
    return (
        "normalize = keras.layers.Normalization(axis=-1)\n"
        "normalize.adapt(inputs)  # of the training\n"
        "model = keras.Sequential([normalize, model])"
    )


def _regularization(one: Recommendation, _architecture: Architecture) -> str:
    if "dropout" not in one.change:
        return (
            f"optimizer.weight_decay = {one.change['weight_decay']!r}\n"
            "optimizer.exclude_from_weight_decay(var_names=['bias', 'gamma', 'beta'])"
        )
    return (
        "for layer in model.layers:\n"
        "    if isinstance(layer, (keras.layers.Dropout, keras.layers.AlphaDropout)):\n"
        f"        layer.rate = min(layer.rate, {one.change['dropout']!r})"
    )


def _clipping(one: Recommendation, _architecture: Architecture) -> str:
    return (
        f"optimizer.global_clipnorm = {one.change['max_norm']!r}"
        "  # clipnorm= would bound the gradient of each weight by itself"
    )


def _learning_rate(one: Recommendation, _architecture: Architecture) -> str:
    return f"optimizer.learning_rate = {one.change['lr']!r}"


def _loss_scaling(one: Recommendation, _architecture: Architecture) -> str:
    scale = one.change["loss_scale"]
    return f"optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale={scale!r})"


def _pretraining(one: Recommendation, _architecture: Architecture) -> str:
    change = one.change
    return _PRETRAIN.format(names=listed(one.layers), lr=change["lr"], steps=change["steps"])


_SAID: Mapping[str, Callable[[Recommendation, Architecture], str]] = {
    "activation": _activation,
    "normalization": _normalization,
    "residual": _residual,
    "recurrent_cell": _recurrent_cell,
    "input_scaling": _input_scaling,
    "regularization": _regularization,
    "clipping": _clipping,
    "learning_rate": _learning_rate,
    "loss_scaling": _loss_scaling,
    "pretraining": _pretraining,
}
"""Beside the values that `parameters` of a change give: an initializer has nothing else."""
