"""Multi-head attention. Samples are (time, features)."""

from __future__ import annotations

from collections.abc import Mapping

from service.domain.layers.inference import last_size
from service.domain.layers.kinds import Flag, Real, Whole, optional
from service.domain.layers.layer_type import CausalMask, LayerType
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Misfit, Shape

AXES = "(time, features)"
"""What a sample's dimensions mean."""
BATCH_FIRST = Argument("batch_first", Flag(), True)
DROPOUT = Real(0, 1)


def below(prefix: str, parameters: Mapping[str, Shape]) -> dict[str, Shape]:
    """The parameters of a module, named as its owner names them."""
    return {f"{prefix}.{name}": shape for name, shape in parameters.items()}


def check_heads(args: Args, size: str, heads: str) -> None:
    """Every head gets an equal share of the features. Raises BadArgument."""
    if size in args and args[size] % args[heads]:
        raise BadArgument(heads, f"`{heads}` {args[heads]} must divide `{size}` {args[size]}")


def check_time(args: Args, inputs: Inputs) -> None:
    """Without batch_first torch reads the time of our samples as the batch: it must agree."""
    first = inputs[0].shape[0]
    for position, tensor in enumerate(inputs):
        if not args["batch_first"] and tensor.shape[0] != first:
            takes = f"inputs of {first} time steps when `batch_first` is false"
            gives = str(tensor.shape[0])
            raise Misfit(takes, gives, argument="batch_first", position=position)


def _attention_shape(args: Args, inputs: Inputs) -> Shape:
    check_time(args, inputs)
    query, key, value = inputs if len(inputs) == 3 else inputs * 3
    wanted = {"kdim": key.shape[1], "vdim": value.shape[1]}
    for position, (name, size) in enumerate(wanted.items(), start=1):
        expected = args[name] if args[name] is not None else args["embed_dim"]
        if size != expected:
            source = position if len(inputs) == 3 else 0
            what = "keys" if name == "kdim" else "values"
            takes = f"{expected} features in its {what} (`{name}`)"
            raise Misfit(takes, str(size), argument=name, position=source)
    if key.shape[0] != value.shape[0]:
        takes = f"as many values as keys, {key.shape[0]},"
        raise Misfit(takes, str(value.shape[0]), position=2)
    return query.shape


def attention_parameters(args: Args) -> dict[str, Shape]:
    """One input projection for all three where they are equally wide, else three."""
    size = args["embed_dim"]
    kdim, vdim = args["kdim"] or size, args["vdim"] or size
    shapes: dict[str, Shape]
    if kdim == vdim == size:
        shapes = {"in_proj_weight": (3 * size, size)}
    else:
        shapes = {
            "q_proj_weight": (size, size),
            "k_proj_weight": (size, kdim),
            "v_proj_weight": (size, vdim),
        }
    if args["bias"]:
        shapes["in_proj_bias"] = (3 * size,)
    if args["add_bias_kv"]:
        shapes |= {"bias_k": (1, 1, size), "bias_v": (1, 1, size)}
    return shapes | below("out_proj", affine((size, size), (size,), args["bias"]))


def affine(weight: Shape, bias: Shape, has_bias: bool) -> dict[str, Shape]:
    """A weight, and a bias unless it is switched off."""
    return {"weight": weight} | ({"bias": bias} if has_bias else {})


ATTENTION = LayerType(
    "MultiheadAttention",
    "attention",
    "Scaled dot-product attention in several heads; one input is query, key and value, three "
    "are these in order.",
    (
        Argument("embed_dim", Whole(), infer=last_size(), unit="features"),
        Argument("num_heads", Whole()),
        Argument("dropout", DROPOUT, 0.0),
        Argument("bias", Flag(), True),
        Argument("add_bias_kv", Flag(), False),
        Argument("add_zero_attn", Flag(), False),
        Argument("kdim", optional(Whole()), None),
        Argument("vdim", optional(Whole()), None),
        BATCH_FIRST,
    ),
    output=_attention_shape,
    parameters=attention_parameters,
    check=lambda args: check_heads(args, "embed_dim", "num_heads"),
    input_counts=(1, 3),
    ranks=(2, 2),
    axes=AXES,
    always={"batch_first": True},
    masks={"is_causal": CausalMask("attn_mask")},
)
