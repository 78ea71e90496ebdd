"""One model, loaded once: measured, trained and exported as often as asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Any

import torch
from torch import Tensor, fx

from service.domain.architecture import Architecture
from service.domain.errors import (
    ChangeRefused,
    ModelRaised,
    NotDifferentiable,
    Untraceable,
)
from service.domain.measurements import (
    BatchNormalization,
    InputStatistics,
    Measurements,
    ModelFacts,
    Trial,
)
from service.domain.memory import AUTO_BATCH
from service.domain.probe_plan import Look, ProbePlan
from service.probing import export, trial
from service.probing.answer import loss_for
from service.probing.batch_norm import batch_normalizations
from service.probing.beside import Beside
from service.probing.budget import SIZES, Fitted, fit
from service.probing.data import Data
from service.probing.devices import CPU
from service.probing.dropout import by_layer
from service.probing.edits import edited
from service.probing.feed import Feed
from service.probing.fidelity import is_faithful
from service.probing.input_statistics import input_statistics
from service.probing.layering import Layer, layers_of
from service.probing.loaders.loaded import LoadedModel
from service.probing.losses import Loss
from service.probing.notes import notes_on
from service.probing.opening import Opened, Sent, opened
from service.probing.pace import Pace
from service.probing.pilot import Tried, micro_batch
from service.probing.precision import FLOAT32, PRECISIONS
from service.probing.pretraining import Pretraining, asked, pretrain
from service.probing.probe import Batch
from service.probing.randomness import attainable_shares
from service.probing.seeds import Seeds
from service.probing.summary import summed_up
from service.probing.trace import Recording, first_lines, primary_output
from service.probing.training import is_of_training, scaled, split
from service.probing.weights import Weights

PRETRAINING_BATCHES = -1000
"""Numbers of the batches that pre-training sees, from here down: none that is measured."""


PRETRAINING_SHARE = 0.1
"""Of budget_seconds: what pre-training of one initialization may take."""


class Session:
    """The probing room's whole offer, behind the process wall."""

    recording: Recording
    layers: tuple[Layer, ...]
    loss: Loss
    output_shape: tuple[int, ...]
    recorded: bool
    """False: every batch may take a path of its own."""
    batch_norms: Mapping[int, BatchNormalization]
    dropout: Mapping[int, tuple[float, ...]]

    def __init__(
        self,
        model: LoadedModel,
        plan: ProbePlan,
        *,
        memory_mb: int | None = None,
        data: Data | None = None,
        fitted: Fitted | None = None,
        device: torch.device = CPU,
        wide: LoadedModel | None = None,
        beside: Beside | None = None,
        ranges: bool = False,
        pace: Pace | None = None,
        alike: Session | None = None,
        small: bool = False,
    ) -> None:
        """Record and time a micro-batch (`small`: a whole one), fit the plan to budget and memory
        (MiB; None: no bound) unless it is `fitted`, record the model at the batch size that came
        out. Batches are rows of `data`, or drawn as the plan says. `wide`: the model with
        parameters in float32, where the plan's precision stores them in 16 bits; `beside`: it is
        open already. `ranges`: measure, too, what tells whether gradients fit into 16 bits.
        `pace`: told of every batch and every step of the short training. `alike`: a session over
        the same graph, whose recording and taps hold for this one."""
        self.precision = PRECISIONS[plan.precision]
        self.model = model = replace(model, precision=self.precision)
        self.dtype = self.precision.outside
        self.ranges = ranges
        self.weights = Weights(model, plan.seed)
        self.device = device
        self.pace = pace or Pace()
        self.feed = Feed(plan, self.dtype, data, device)
        alone = self.precision.half is None or beside is not None
        wide = None if alone else wide or model
        tried = None
        if fitted is None:
            tried = self._tried(wide, memory_mb, small=small)
            fitted = fit(tried.plan, tried.cost, memory_mb)
        self.plan, self.batch_size, self.cuts = fitted.plan, fitted.batch_size, fitted.notes
        self.fits = fitted.largest
        """Samples estimated to fit the memory; None without a bound."""
        if alike is None:
            at_size = tried is not None and tried.samples == self.batch_size
            self._record(tried.recording if tried is not None and at_size else None)
        else:
            self.recording, self.layers = alike.recording, alike.layers
            self.loss, self.output_shape = alike.loss, alike.output_shape
            self.recorded = alike.recorded
            self.batch_norms, self.dropout = alike.batch_norms, alike.dropout
        self._last_changed: tuple[str, Session] | None = None
        self.inputs = () if data is None else self._input_statistics(data)
        self._seeds: Seeds = Seeds(None if alike is None else alike._seeds)
        self.beside = beside if wide is None else self._in_float32(wide, fitted)

    def _record(self, tried: Recording | None) -> None:
        """At the batch size that came out; `tried`: with another batch of it."""
        model, inputs = self.model, self.feed.inputs(self.batch_size, 0, 0)
        # What a spec can say has no branches, nor has a graph that was recorded before; others may
        # have taken another path.
        straight = model.format == "spec" or isinstance(model.module, fx.GraphModule)
        self.recording = (tried if straight else None) or model.record(inputs)
        graph = self.recording.module.graph
        self.layers = layers_of(graph, model.parameters)
        self.loss, self.output_shape = loss_for(
            self.plan.loss, self.recording, self.buffers, inputs
        )
        batches = (self.batch(0, number) for number in range(self.plan.batches))
        self.recorded = straight or is_faithful(model, self.recording, batches, self.loss)
        self.batch_norms = batch_normalizations(graph, self.layers)
        self.dropout = by_layer(graph, self.layers)

    def _tried(self, wide: LoadedModel | None, memory_mb: int | None, *, small: bool) -> Tried:
        """A few samples, in float32 beside 16 bits too. Raises ModelRaised."""
        if wide is None:
            samples = self.feed.plan.batch_size or AUTO_BATCH if small else SIZES[0]
            return micro_batch(self.model, self.feed, memory_mb, samples=samples)
        try:
            own = micro_batch(self.model, self.feed, memory_mb)
        except RuntimeError as error:
            raise ModelRaised(f"in {self.precision.name}: {first_lines(error)}") from error
        wide = replace(wide, precision=FLOAT32)
        feed = replace(self.feed, plan=own.plan)
        return replace(own, cost=own.cost.and_beside(micro_batch(wide, feed, memory_mb).cost))

    def _in_float32(self, wide: LoadedModel, fitted: Fitted) -> Beside:
        """The same model on the same batches, to compare with."""
        fitted = replace(fitted, plan=replace(fitted.plan, precision=FLOAT32.name), notes=())
        session = Session(
            wide,
            fitted.plan,
            data=self.feed.data,
            fitted=fitted,
            device=self.device,
            ranges=True,
            pace=self.pace,
        )
        return Beside(session, self.precision.half or self.dtype)

    @classmethod
    def open(
        cls,
        plan: ProbePlan,
        architecture: Architecture | None,
        file: IO[bytes] | None,
        *,
        model_format: str = "torchscript",
        memory_mb: int | None = None,
        weights: bytes | None = None,
        data: bytes | None = None,
        device: torch.device = CPU,
        pace: Pace | None = None,
    ) -> Session:
        """Build a spec's model (with `weights`, a safetensors file, in place of its
        initialization) or load a file's, torchscript or exported_program. Raises
        ProbeFailure."""
        sent = Sent(architecture, file, model_format, weights, data)
        found = opened(plan, sent, device, memory_mb)
        return cls.of(found, memory_mb=memory_mb, device=device, pace=pace)

    @classmethod
    def of(
        cls,
        found: Opened,
        *,
        memory_mb: int | None = None,
        device: torch.device = CPU,
        pace: Pace | None = None,
    ) -> Session:
        """Over what was opened. Raises ProbeFailure."""
        return cls(
            found.model,
            found.plan,
            memory_mb=memory_mb,
            data=found.data,
            device=device,
            wide=found.wide,
            pace=pace,
            small=found.small,
        )

    def facts(self) -> ModelFacts:
        """What loading told."""
        return ModelFacts(
            format=self.model.format,
            parameters=sum(value.numel() for value in self.model.parameters.values()),
            layers=len(self.layers),
            recorded=self.recorded,
            torch=str(torch.__version__),
            device=str(self.device),
            batch_size=self.batch_size,
            batches=self.plan.batches,
            seeds=self.plan.seeds,
            inputs=self.plan.inputs,
            trial_steps=self.plan.trial_steps,
        )

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        """Seeds × batches, or as many of them as the look asks for; `after_steps` optimizer steps
        are taken first, and taken back.

        Raises ChangeRefused when the changes cannot be made, or so many seconds are over before
        they are made and measured."""
        with self.pace.within(seconds):
            return self._in_time(changes, after_steps, look)

    def _in_time(
        self, changes: tuple[Mapping[str, Any], ...], after_steps: int, look: Look | None
    ) -> Measurements:
        edits, training = split(changes)
        if edits:
            return self.changed(edits).measure(_rest(changes), after_steps=after_steps, look=look)
        plan = self.plan.within(look)
        steps = plan.seeds * (after_steps + plan.batches)
        if self.beside is None:
            self.pace.begin(steps)
            return self._at_scale(training.loss_scale, plan, after_steps)
        compared = not after_steps
        as_trained = training.loss_scale == 1.0 and self.precision.scales_loss
        passes = self.beside.passes(plan, look) if compared else 0
        # Whether a loss scale is needed shows only later.
        self.pace.begin(steps + passes + (steps if as_trained else 0))
        measured = self._at_scale(training.loss_scale, plan, after_steps)
        if compared:
            measured = self.beside.compared(measured, look)
        if as_trained:
            again = partial(self._at_scale, plan=plan, after_steps=after_steps)
            measured = self.beside.as_trained(measured, again)
        return measured

    def measure_beside(self, look: Look | None) -> Measurements:
        """Seeds × batches as a part of what another session is asked."""
        return self._measured(self.plan.within(look), 0)

    def _at_scale(self, loss_scale: float, plan: ProbePlan, after_steps: int = 0) -> Measurements:
        """Everything measured, the loss times so much."""
        with self._loss_scaled(loss_scale):
            return self._measured(plan, after_steps, scaled=loss_scale != 1.0)

    def _measured(self, plan: ProbePlan, after_steps: int, *, scaled: bool = False) -> Measurements:
        plain = not after_steps and not scaled
        seeds, signal = self._seeds.measured(self, plan, after_steps, plain=plain)
        attainable = attainable_shares(self.recording.module.graph, self.layers) if signal else {}
        measured = summed_up(seeds, self.loss, self.output_shape, self.model.frozen)
        return replace(
            measured,
            model=replace(
                measured.model,
                inputs=self.inputs,
                answers_given=self.feed.data is not None and self.feed.data.answers is not None,
                gradient_check=self._seeds.gradient_check,
            ),
            layers=tuple(
                replace(
                    layer,
                    batch_normalization=self.batch_norms.get(layer.index),
                    dropout=self.dropout.get(layer.index, ()),
                    activation=replace(
                        layer.activation,
                        signal_share=signal.get(layer.index),
                        attainable_share=attainable.get(layer.index),
                    ),
                )
                for layer in measured.layers
            ),
            notes=tuple(notes_on(self.model, self.device.type, self.cuts, recorded=self.recorded)),
            after_steps=after_steps,
        )

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """The short trainings; `rates`: optimizer → the one rate it is tried at, where the plan
        names no optimizer. Raises ChangeRefused when the changes cannot be made, or so many
        seconds are over before they end."""
        with self.pace.within(seconds):
            return self._trained(changes, rates)

    def _trained(
        self, changes: tuple[Mapping[str, Any], ...], rates: Mapping[str, float] | None
    ) -> Trial:
        edits, training = split(changes)
        if edits:
            return self.changed(edits).trial(_rest(changes), rates=rates)
        self.pace.begin(self.plan.trial_steps, perhaps_more=True)
        try:
            return trial.run(
                self,
                self.plan,
                self.plan.inputs,
                self.loss,
                batch_size=self.batch_size,
                dtype=self.dtype,
                data=self.feed.data,
                training=training,
                rates=rates,
                on_step=self.pace.step,
                scales_loss=self.precision.scales_loss,
            )
        finally:
            self.restore()

    def export(self, file: IO[bytes], changes: tuple[Mapping[str, Any], ...] = ()) -> int:
        """Write the weights as a safetensors file; returns its size in bytes. Raises
        ChangeRefused when the changes cannot be made."""
        edits, _ = split(changes)
        if edits:
            return self.changed(edits).export(file)
        try:
            self.reset()
            state = self.weights.values
            shared = {name: state[first] for name, first in self.model.aliases.items()}
            return export.write(file, {**state, **shared})
        finally:
            self.restore()

    def changed(self, changes: tuple[Mapping[str, Any], ...]) -> Session:
        """The model as changed, its parameters shared with this one; the last one is kept."""
        key = json.dumps(changes, sort_keys=True, default=dict)
        if self._last_changed is None or self._last_changed[0] != key:
            if not self.recorded:
                raise ChangeRefused("the model's path depends on its data: it cannot be edited")
            self._last_changed = None
            self._last_changed = (key, self._edited(changes))
        return self._last_changed[1]

    def _edited(self, changes: tuple[Mapping[str, Any], ...]) -> Session:
        fitted = Fitted(self.plan, self.batch_size, (), self.fits)
        try:
            edits = tuple(change for change in changes if change.get("kind") != "pretraining")
            model = edited(self.model, self.recording, self.layers, edits)
            self.pace.go_on()
            session = Session(
                model,
                self.plan,
                data=self.feed.data,
                fitted=fitted,
                device=self.device,
                beside=None if self.beside is None else self.beside.changed(changes),
                ranges=self.ranges,
                pace=self.pace,
                alike=self if model.module is self.recording.module else None,
            )
            self.pace.go_on()
            if (how := asked(changes)) is not None:
                session.weights.pretrain = session._pretraining(how)
                session.reset()  # what it finds is kept for every ask to come
            return session
        except (ModelRaised, NotDifferentiable, Untraceable) as error:
            raise ChangeRefused(f"the model as changed does not run: {error.detail}") from error
        except (TypeError, ValueError, RuntimeError) as error:
            raise ChangeRefused(first_lines(error)) from error

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The model's own parameters."""
        return self.model.parameters

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """The model's own buffers."""
        return self.model.buffers

    def forward(self, *inputs: Tensor) -> Tensor:
        """The recorded graph, or the model itself where it would not be recorded."""
        if self.recorded:
            output: Tensor = self.recording.module(*inputs)
            return output
        return primary_output(self.model.run(*inputs))

    def reset(self) -> None:
        """Parameters and buffers as the first seed has them."""
        self.weights.draw(0)

    def restore(self) -> None:
        """Parameters and buffers as they came."""
        self.weights.restore()

    def batch(self, seed: int, number: int) -> Batch:
        """What the pass at this place runs on."""
        return self.feed.batch(self.batch_size, seed, number)

    def _pretraining(self, how: Pretraining) -> Callable[[int], dict[str, Tensor]]:
        """Values by name, for a seed. Holds no session, which is to go when another change is
        asked for."""
        recording, layers, feed = self.recording, self.layers, self.feed
        plan, batch_size = self.plan, self.batch_size

        def found(seed: int) -> dict[str, Tensor]:
            return pretrain(
                recording,
                layers,
                how,
                lambda step: feed.inputs(batch_size, seed, PRETRAINING_BATCHES - step),
                plan.seed + seed,
                plan.budget_seconds * PRETRAINING_SHARE,
            )

        return found

    @contextmanager
    def _loss_scaled(self, scale: float) -> Iterator[None]:
        loss = self.loss
        if scale != 1.0:
            self.loss = scaled(loss, scale)
        try:
            yield
        finally:
            self.loss = loss

    def _input_statistics(self, data: Data) -> tuple[InputStatistics, ...]:
        first = self.layers[0].op if self.layers else ""
        return input_statistics(data, channels_first=first.startswith("conv"))


def _rest(changes: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """Those of the training alone."""
    return tuple(change for change in changes if is_of_training(change))
