"""Tables of vectors, looked up by integers."""

from __future__ import annotations

from service.domain.layers.kinds import MAX_SIZE, Choice, Flag, OnlyFalse, Real, Whole, optional
from service.domain.layers.layer_type import LayerType, Takes
from service.domain.layers.signature import Args, Argument, BadArgument
from service.domain.layers.tensor import Inputs, Shape

_SIZES = (Argument("num_embeddings", Whole()), Argument("embedding_dim", Whole()))
_PADDING_IDX = Argument("padding_idx", optional(Whole(-MAX_SIZE)), None)
_NORM = (
    Argument("max_norm", optional(Real(above=0)), None),
    Argument("norm_type", Real(above=0), 2.0),
    Argument("scale_grad_by_freq", Flag(), False),
)
_SPARSE = Argument("sparse", OnlyFalse("the gradients are examined dense"), False)


def _check(args: Args) -> None:
    rows, index = args["num_embeddings"], args["padding_idx"]
    if index is not None and not -rows <= index < rows:
        raise BadArgument("padding_idx", f"`padding_idx` must be from {-rows} to {rows - 1}")
    if args.get("mode") == "max" and args["scale_grad_by_freq"]:
        raise BadArgument("scale_grad_by_freq", 'mode "max" cannot scale by frequency')


def _looked_up(args: Args, inputs: Inputs) -> Shape:
    return (*inputs[0].shape, args["embedding_dim"])


def _bag(args: Args, _inputs: Inputs) -> Shape:
    return (args["embedding_dim"],)


def _table(args: Args) -> dict[str, Shape]:
    return {"weight": (args["num_embeddings"], args["embedding_dim"])}


EMBEDDING_TYPES = (
    LayerType(
        "Embedding",
        "embedding",
        "A learned vector for every integer.",
        (*_SIZES, _PADDING_IDX, *_NORM, _SPARSE),
        output=_looked_up,
        parameters=_table,
        check=_check,
        takes=Takes.INTEGERS,
        gives="float32",
    ),
    LayerType(
        "EmbeddingBag",
        "embedding",
        "The sum, mean or maximum of the vectors of a sample's integers.",
        (
            *_SIZES,
            *_NORM,
            Argument("mode", Choice(("sum", "mean", "max")), "mean"),
            _SPARSE,
            Argument("include_last_offset", Flag(), False),
            _PADDING_IDX,
        ),
        output=_bag,
        parameters=_table,
        check=_check,
        ranks=(1, 1),
        axes="(integers)",
        takes=Takes.INTEGERS,
        gives="float32",
    ),
)
