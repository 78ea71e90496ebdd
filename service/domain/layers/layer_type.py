"""What the table knows about one layer type, and how it is applied to its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from service.domain.layers.kinds import Flag, shown
from service.domain.layers.signature import Args, Argument, BadArgument, Infer, Signature
from service.domain.layers.tensor import Inputs, Misfit, Shape, Tensor, listed


class Takes(Enum):
    """Element types a layer computes with."""

    FLOATS = "floating-point numbers"
    INTEGERS = "integers"
    ANY = "any numbers"


def nothing_more(_args: Args, _inputs: Inputs) -> dict[str, Any]:
    """No argument is to be filled in beyond those inferred one by one."""
    return {}


def same_shape(_args: Args, inputs: Inputs) -> Shape:
    """What comes out is as large as what goes in."""
    return inputs[0].shape


def no_parameters(_args: Args) -> dict[str, Shape]:
    """Nothing to learn."""
    return {}


@dataclass(frozen=True, slots=True)
class CausalMask:
    """No step sees a later one: the mask of torch.nn.Transformer.generate_square_subsequent_mask,
    handed to `forward` with the switch."""

    argument: str
    """What `forward` calls the mask."""
    steps: int = 0
    """The input whose time steps it counts."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A layer type with arguments, on inputs."""

    args: dict[str, Any]
    """As given, and those that were inferred; other defaults are left to torch."""
    output: Tensor
    parameters: dict[str, Shape]
    """Name within the module → sizes, in the order of `named_parameters`."""


@dataclass(frozen=True, slots=True)
class LayerType:
    """A class of torch.nn, or one of the few types that torch lacks."""

    name: str
    """As a spec writes it."""
    category: str
    """linear, convolution, recurrent, attention, embedding, activation, normalization, pooling,
    dropout, padding, reshaping, parameter or merge."""
    summary: str
    """What it computes, one sentence."""
    arguments: tuple[Argument, ...] = ()
    """In the constructor's order, without device and dtype."""
    output: Callable[[Args, Inputs], Shape] = same_shape
    """Shape rule. Raises Misfit, BadArgument."""
    parameters: Callable[[Args], dict[str, Shape]] = no_parameters
    """Names and sizes, from arguments that are all filled in."""
    check: Callable[[Args], None] | None = None
    """What the arguments owe each other, defaults filled in. Raises BadArgument."""
    complete: Callable[[Args, Inputs], dict[str, Any]] = nothing_more
    """Arguments to fill in that are no plain inference. Raises BadArgument, Misfit."""
    input_counts: tuple[int, ...] | None = (1,)
    """How many inputs it may have; None: two or more."""
    ranks: tuple[int, int | None] = (0, None)
    """Fewest and most dimensions of every input, per sample; None: any number."""
    axes: str = ""
    """The dimensions in words, for messages: (channels, height, width)."""
    takes: Takes = Takes.FLOATS
    """Element type of every input."""
    gives: str | None = None
    """Element type of the output; None: that of the first input."""
    always: dict[str, Any] = field(default_factory=dict)
    """Arguments written out even when left out, because torch's own default differs."""
    masks: Mapping[str, CausalMask] = field(default_factory=dict)
    """Switches of its forward, by torch's names, and the mask that each stands for."""
    must_init: tuple[str, ...] = ()
    """Parameters that torch has no default initialization for."""
    reads_input: bool = False
    """Whether its input, where none is named, is what comes in and not the layer above."""

    @property
    def signature(self) -> Signature:
        """The constructor."""
        return Signature(self.name, self.arguments, self.check)

    @property
    def call(self) -> Signature:
        """What `forward` may be told besides the inputs."""
        switches = tuple(Argument(name, Flag(), False) for name in self.masks)
        return Signature(f"the forward of {self.name}", switches)

    def check_call(self, given: Args, args: Args, inputs: Inputs) -> None:
        """Whether a causal mask fits the inputs. Raises BadArgument, Misfit."""
        for name in (name for name, is_on in given.items() if is_on):
            if not args.get("batch_first", True):
                raise BadArgument(name, f"`{name}` needs `batch_first`")
            steps = inputs[0].shape[0]
            if self.name == "MultiheadAttention" and inputs[-1].shape[0] != steps:
                takes = f"keys of {steps} time steps, like the queries, when `{name}` is true"
                raise Misfit(takes, str(inputs[-1].shape[0]), position=len(inputs) - 1)

    @property
    def inputs_in_words(self) -> str:
        """How many inputs it may have, for messages."""
        return " or ".join(map(str, self.input_counts)) if self.input_counts else "two or more"

    def takes_inputs(self, count: int) -> bool:
        """Whether it may have so many inputs."""
        return count >= 2 if self.input_counts is None else count in self.input_counts

    def apply(self, given: Args, inputs: Inputs) -> Applied:
        """Infer what was left out, and follow the shape rule.

        `given` has no faults by `signature`, and `takes_inputs` their number.
        Raises Misfit, and BadArgument where a value shows to be wrong only now.
        """
        for position, tensor in enumerate(inputs):
            self._check_input(tensor, position)
        args = self.always | dict(given)
        args |= {
            argument.name: _fitted(argument, argument.infer, given, inputs)
            for argument in self.arguments
            if argument.infer is not None
        }
        signature = self.signature
        args |= self.complete(signature.complete(args), inputs)
        every = signature.complete(args)
        if self.check is not None:
            self.check(every)
        output = Tensor(self.output(every, inputs), self.gives or inputs[0].dtype)
        return Applied(args, output, self.parameters(every))

    def _check_input(self, tensor: Tensor, position: int) -> None:
        low, high = self.ranks
        rank = len(tensor.shape)
        if rank < low or (high is not None and rank > high):
            wanted = f"{_span(low, high)} dimension(s) per sample {self.axes}".rstrip()
            raise Misfit(wanted, f"{rank}, {listed(tensor.shape)}", position=position)
        if self.takes is not Takes.ANY and tensor.is_integer != (self.takes is Takes.INTEGERS):
            raise Misfit(self.takes.value, tensor.dtype, position=position)


def _fitted(argument: Argument, infer: Infer, given: Args, inputs: Inputs) -> Any:
    """The value that the inputs ask for. Raises Misfit when another one was given."""
    value = given.get(argument.name)
    fitting = infer(inputs, value)
    if value is not None and value != fitting:
        takes, gives = f"{shown(value)} {argument.unit}", shown(fitting)
        raise Misfit(takes, gives, argument=argument.name, position=argument.source)
    return fitting


def _span(low: int, high: int | None) -> str:
    if high is None:
        return f"at least {low}"
    return str(low) if low == high else f"{low} to {high}"
