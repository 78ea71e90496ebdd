"""What the taps in a graph show, on its way to the figures and into the records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from service.probing import reductions
from service.probing.accounts import Account, LayerRecord, rms
from service.probing.chains import BATCH_NORM, Chain
from service.probing.figures import Gradient, Norm, Output, Outside
from service.probing.gain_parts import BRANCH
from service.probing.gathering import Gathering
from service.probing.layering import Layer
from service.probing.recurrence import Steps, memory_norms, step_norms

NORM = Norm()


class Watch:
    """Collects the statistics of passes, one at a time or several side by side: then every tensor
    that passes is a stack (P, B, …) of theirs."""

    def __init__(
        self, layers: tuple[Layer, ...], *, ranges: bool = False, side_by_side: bool = False
    ) -> None:
        self.layers = layers
        self.ranges = ranges
        self._side_by_side = side_by_side
        self._gradients = Gradient(ranges)
        self._accounts: tuple[tuple[int, Account], ...] = ()
        self._steps_entry: dict[int, Tensor] = {}
        self.gathering = Gathering()
        self.chains: dict[int, Chain] = {}
        """By index of the layer."""
        self._may_change = False
        self.entry_is_output: dict[int, int] = {}
        """Layers whose data input is another layer's output that nobody else reads."""
        self._readers: dict[int, list[int]] = {}
        """The same the other way round."""

    def follow(
        self, layers: tuple[Layer, ...], entry_is_output: dict[int, int], *, may_change: bool
    ) -> None:
        """What passes from now on comes from these layers; `may_change`: operations write into
        tensors that were seen before."""
        self.entry_is_output = entry_is_output
        self._may_change = may_change
        self._readers = {}
        for reader, source in entry_is_output.items():
            self._readers.setdefault(source, []).append(reader)
        self.chains = {layer.index: layer.chain for layer in layers if layer.chain}

    def begin(self, records: Iterable[tuple[int, Sequence[LayerRecord]]]) -> None:
        """What the next pass shows goes into these: the number of the pass among those side by
        side (0 where it is alone), and the records of its seed, one per layer. Passes of one seed
        are written in this order."""
        self._accounts = tuple((number, Account(own)) for number, own in records)

    def output(self, index: int, tensor: Tensor) -> None:
        """A layer's output passes."""
        stack = self._stack(tensor)
        shape, layer = stack.shape[1:], self.layers[index]
        several = len(shape) > 1
        reduction = Output(layer.unit_dim if several else -1, several)
        then = partial(self._forward, index, reduction, shape)
        self.gathering.add(reduction, stack, then, at_once=self._may_change)
        for reader in self._readers.get(index, ()):
            self._enters(reader, tensor.detach())
        if tensor.requires_grad:
            tensor.register_hook(partial(self._backward, index))

    def saturation(self, index: int, tensor: Tensor) -> None:
        """The output of a layer's activation passes."""
        region = self.layers[index].flat_region
        if region is None:
            return
        outside = Outside(*region)

        def then(rows: Tensor) -> None:
            shares = outside.read(rows)
            for number, account in self._accounts:
                account.number(index, "activation.saturated_fraction", shares[number])

        self.gathering.add(outside, self._stack(tensor), then, at_once=self._may_change)

    def entry(self, index: int, tensor: Tensor) -> Tensor:
        """A layer's data input passes; a view of its own, so that its gradient is the layer's
        alone where others read the same tensor."""
        own = tensor.view_as(tensor)
        if (
            index in self.chains
            and tensor.is_floating_point()
            and self._is_wanted(index, "input.rms")
        ):
            stack = self._stack(tensor)
            then = partial(self._note_rms, index, stack[0].numel())
            self.gathering.add(NORM, stack, then, at_once=self._may_change)
        self._enters(index, tensor.detach())
        if own.requires_grad:
            own.register_hook(partial(self._arrives, index))
        return own

    def branch(self, index: int, tensor: Tensor) -> Tensor:
        """The data input of a layer that also adds it to its output passes, on its way to the
        weights; a view of its own, so that its gradient is the branch's alone."""
        own = tensor.view_as(tensor)
        self.part(index, BRANCH, own)
        return own

    def part(self, index: int, number: int, tensor: Tensor) -> None:
        """The tensor that ends part `number` of a layer passes."""
        if tensor.requires_grad:
            tensor.register_hook(partial(self._on_path, (index, number)))

    def steps_entry(self, index: int, tensor: Tensor) -> Tensor:
        """A recurrent layer's data input passes; a view of its own, where going back ends. Only
        where passes are alone."""
        self._steps_entry[index] = own = tensor.view_as(tensor)
        return own

    def steps(self, index: int, where: Steps, outputs: Tensor) -> None:
        """The outputs of all of a recurrent layer's time steps pass; once per seed is enough."""
        ((_, account),) = self._accounts
        record, entry = account.records[index], self._steps_entry.pop(index)
        if record.memory or not entry.requires_grad:
            return
        record.memory = memory_norms(outputs, entry, where)

        def arrives(gradient: Tensor) -> None:
            record.step_gradients = step_norms(gradient, where.time_dim)

        entry.register_hook(arrives)

    def finish(self) -> None:
        """After the backward pass: read the numbers, and turn the gradients' norms into gains."""
        self.gathering.read()
        for _, account in self._accounts:
            account.close(range(len(self.layers)), self.entry_is_output, self.chains)
        self._accounts = ()

    def _stack(self, tensor: Tensor) -> Tensor:
        return tensor.detach() if self._side_by_side else tensor.detach().unsqueeze(0)

    def _is_wanted(self, index: int, name: str) -> bool:
        """Whether any pass's seed has not this number yet, of which one is enough."""
        return any(name not in account.records[index].numbers for _, account in self._accounts)

    def _forward(self, index: int, reduction: Output, shape: torch.Size, rows: Tensor) -> None:
        """The numbers of a layer's output have come."""
        seen, count = reduction.read(rows, shape), shape.numel()
        readers = [one for one in self._readers.get(index, ()) if one in self.chains]
        for number, account in self._accounts:
            account.output(index, seen[number], shape)
            for reader in readers:
                account.once(reader, "input.rms", rms(seen[number].norms.norm, count))

    def _note_rms(self, index: int, count: int, rows: Tensor) -> None:
        seen = NORM.read(rows)
        for number, account in self._accounts:
            account.once(index, "input.rms", rms(seen[number].norm, count))

    def _enters(self, index: int, value: Tensor) -> None:
        """What theory asks of a layer's data input; once per seed is enough."""
        chain = self.chains.get(index)
        if chain is None or BATCH_NORM not in chain.kinds or not value.is_floating_point():
            return
        if not self._is_wanted(index, "input.std"):
            return
        by_channel = self.layers[index].op.startswith("conv")
        stack = self._stack(value)
        for number, account in self._firsts():
            then = partial(self._note_std, index, account)
            self.gathering.ask(reductions.unit_std(stack[number], by_channel=by_channel), then)

    def _firsts(self) -> Iterator[tuple[int, Account]]:
        """The first pass of each seed."""
        seen: set[int] = set()
        for number, account in self._accounts:
            if id(account.records) not in seen:
                seen.add(id(account.records))
                yield number, account

    def _note_std(self, index: int, account: Account, std: Tensor) -> None:
        account.once(index, "input.std", _finite(float(std)))

    def _backward(self, index: int, gradient: Tensor) -> None:
        stack = self._stack(gradient)
        then = partial(self._gradient, index, stack[0].numel())
        self.gathering.add(self._gradients, stack, then)

    def _gradient(self, index: int, count: int, rows: Tensor) -> None:
        """The numbers of the gradient at a layer's output have come."""
        seen = self._gradients.read(rows)
        for number, account in self._accounts:
            account.gradient(index, seen[number], count)

    def _arrives(self, index: int, gradient: Tensor) -> None:
        def then(rows: Tensor) -> None:
            seen = NORM.read(rows)
            for number, account in self._accounts:
                account.arrives(index, seen[number])

        self.gathering.add(NORM, self._stack(gradient), then)

    def _on_path(self, place: tuple[int, int], gradient: Tensor) -> None:
        def then(rows: Tensor) -> None:
            seen = NORM.read(rows)
            for number, account in self._accounts:
                account.on_path(place, seen[number].norm)

        self.gathering.add(NORM, self._stack(gradient), then)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
