"""Every number that a detector compares with, named, with where it comes from.

"Labelled networks" are multilayer perceptrons, convolutional and recurrent networks of depth 1 to
50 with 12 activations and 16 initializations, each really trained (SGD with momentum at five
rates, Adam at two, 400 steps on the 8×8 digits): `healthy` both train it, `sick` neither,
`mixed` between. 130 of them are tests/cases/dev_cases.jsonl; others were made with
tests/cases/oracle.py from other random seeds. Thresholds stand in gaps between the labels and at
round places that theory suggests, never at a single case. `python -m benchmarks.score` measures
them again.

Decades are log₁₀. None of these numbers is an absolute size of a gradient.
"""

from __future__ import annotations

from service.diagnosis.detector import Limits

GRADIENT_FALL = Limits(warning=2.7, warning_width=0.25, error=5.4, error_width=0.7)
"""Decades that the gradient falls towards the input. Healthy labelled networks lose at most 2.3
decades. Between about 3 and 5 SGD stops while Adam, blind to scale, still trains. Beyond: a usual
gradient of the last layer (about 1e-3 an element) has fallen to Adam's ε = 1e-8 (Kingma & Ba
2015; torch.optim.Adam's default) after 5 to 6 decades, and Adam's steps shrink as well."""

GRADIENT_GROWTH = Limits(
    warning=2.7, warning_width=0.25, error=4.5, error_width=0.3, error_ceiling=0.65
)
"""Decades that gradient and activations grow together. A smaller step or Adam, blind to scale, may
cope: of the labelled networks beyond 4.5 decades SGD trains none, and Adam a third, wide ones
rather than narrow ones, up to 19 decades."""

EXCESS_GROWTH = Limits(warning=1.75, warning_width=0.1, error=1.95, error_width=0.08)
"""Decades that the gradient grows more than the activations do: the chaotic phase (Poole et al.
2016). Healthy labelled networks, batch normalization's own explosion included (gain² of
BatchNorm + ReLU: π/(π-1) = 1.467 a layer, Yang et al. 2019), reach 1.6; those of 2.2 and
more are sick."""

TIME_GROWTH = Limits(warning=2.0, warning_width=0.3, error=3.5, error_width=0.4)
"""Decades that the gradient grows inside a recurrent layer, over all of its time steps (Pascanu et
al. 2013). Healthy labelled networks stay under 1; a 64-step LSTM at 2.6 is mixed, a 64-step
RNN at 11 sick."""

STEP_GROWTH = Limits(warning=1.0, warning_width=0.2, error=4.3, error_width=0.3)
"""Decades that a gradient from the last output grows on its way to the inputs of earlier steps.
Over 8 to 64 steps, healthy labelled recurrent networks reach 0.5, mixed ones 0.6 to 4.0, and those
of 4.7 and 11.7 are sick."""

MEMORY_FALL = Limits(warning=4.0, warning_width=0.4)
"""Decades that a gradient falls from the input of the step that gets most of it to that of the
first. Labelled recurrent networks over 8 to 64 steps: healthy ones lose up to 3.9, and of 27 that
lose more all are mixed but one, over 8 steps."""
MEMORY_CEILING = 0.95
"""Probability of being at risk however far it falls: see there."""

INPUT_LARGE = Limits(warning=2.0, warning_width=0.25)
"""log₁₀ of the inputs' root mean square. Times 30 all of three plain networks train on the digits,
times 100 one fails with SGD, times 1000 all do; for this and the next three see
`python -m benchmarks.input_scale`."""
INPUT_SMALL = Limits(warning=1.5, warning_width=0.12)
"""-log₁₀ of the inputs' root mean square. A tenth trains, a hundredth fails with SGD."""
INPUT_OFFSET = Limits(warning=0.9, warning_width=0.08)
"""log₁₀ of |mean| / standard deviation, median over the features. 4 trains, 14 goes half-way, 43
fails with SGD and Adam."""
INPUT_SPREAD = Limits(warning=1.6, warning_width=0.12)
"""log₁₀ of the largest feature over the lower quartile. 16 trains, 100 fails with SGD."""

NOISE_WORTH_TELLING = 10.0
"""tr(Σ) / ‖μ‖² of a batch's gradient from which an info is given: a tenth of a step's squared
length is signal (McCandlish et al. 2018: the batch is a tenth of the noise scale)."""
NOISE_WARNING = 100.0
"""… a warning: a hundredth."""
ENOUGH_BATCHES = 16
"""Batches from which a warning is given: over 4, real digits and shuffled answers come out alike
(networks with 16 samples a batch: 2 to 5 and once no signal, 2 to 600 and once none)."""
USUAL_BATCH = 32
"""Samples from which a batch is not called small."""

UNDERFLOW_WORTH_TELLING = 0.05
"""Share of a layer's gradient elements that float16 rounds to zero: 5 % of a speech model's were
lost, and it did not train as well (Micikevicius et al. 2018, section 3)."""

UPDATES_LOST_WORTH_TELLING = 0.05
"""Share of a layer's weights that the first step leaves as they were: in the speech model of
Micikevicius et al. 2018, section 3.1, 5 % of the updates were lost in float16 and accuracy with
them."""
UPDATES_LOST_WARNING = 0.5
"""Half of the weights stand still."""

FEW_VALUES = 8
"""Values under which batch statistics are mostly noise: the squared gradient grows by (B-2)/(B-3)
a layer, 1.2 at 8; ImageNet error rises by 1.2 % at 8 samples, 3.7 % at 4 (Wu & He 2018)."""

CHECK_FAILED = 0.05
"""Relative error of autograd's slope against a two-sided difference. Float32 leaves 1e-2 at most on
healthy networks, and whatever exceeds this is measured again in float64, where 1e-5 is left."""

DISTINCTION_LOSS = Limits(
    warning=4.5, warning_width=0.3, error=6.0, error_width=0.2, error_ceiling=0.4
)
"""Decades that 1 - correlation between samples loses over depth. Healthy labelled networks lose at
most 3.6. Float32 sums tell no more than 7 apart (2⁻²⁴ = 6e-8); of the labelled networks that reach
that without a gradient vanishing for certain, a third is sick and the rest mixed."""

UPDATE_SHARE = Limits(warning=2.7, warning_width=0.3, error=3.2, error_width=0.5, error_ceiling=0.8)
"""Σ over the layers of a plain stack of lr·√fan_in/rms(W) at Adam's gentlest usual rate: the
share of every layer's output that one coherent step (each weight by ± lr) rewrites. Labelled
deep stacks with LayerNorm are sick from 3.3; healthy ones reach 2.8."""
USUAL_ADAM_RATE = 3e-4
"""The smaller of the two usual rates of Adam that the verdict asks about."""
DEEP_STACK = 20
"""Layers from which a plain stack is asked for its update share: shallower ones all train."""
PER_SAMPLE = frozenset({"layer_norm", "rms_norm", "group_norm", "instance_norm"})
"""Normalizations that look at one sample alone."""

SYMMETRY = 1e-3
"""Largest relative spread of the rows of a weight's gradient that counts as the same gradient:
float32 sums of some hundred terms differ by less than 1e-5; labelled random networks start at
0.7."""

DEAD_UNITS = Limits(warning=0.9, warning_width=0.02)
"""Share of a layer's units that are zero on the whole probe. Healthy labelled networks reach
0.5."""
DEAD_UNITS_WORTH_TELLING = 0.5
"""From this share on an info is given."""
ALL_DEAD = 0.999
"""A layer with this share of dead units passes nothing on."""

SIGNAL_LOSS = Limits(warning=0.9, warning_width=0.06, error=1.15, error_width=0.08)
"""-log₁₀ of the signal that dropout and noise leave. Healthy labelled networks keep 0.63 and more,
but usual recipes that train well keep less: 0.18 in vision transformers with dropout 0.1, 0.2 in a
VGG with dropout 0.5 before its last layers (docs/zoo.md). Sick ones with dropout keep 0.06 and
less, mixed ones 0.08 to 0.72. The same for what the rates alone leave: 0.03 with dropout 0.5 at
each of five layers, which is sick; 0.59 with 0.1 at each of five, which trains."""
SIGNAL_RESOLUTION = 0.01
"""Share under which 64 samples do not tell a signal from none."""

SATURATION = Limits(
    warning=0.8, warning_width=0.04, error=0.95, error_width=0.015, error_ceiling=0.65
)
"""Share of a layer's elements where the activation is flat (derivative under 5 % of its largest).
Healthy labelled networks reach 0.5, and 0.81 with one hidden layer; 0.8 is the first mixed one. Of
six with a hidden layer of a function flat on both sides at 0.96 and more four are sick."""
FLAT_BOTH_SIDES = frozenset({"sigmoid", "hardsigmoid", "tanh", "hardtanh", "softsign"})
"""Activations that lose the input's size on either side; the other ones keep it on one."""
SATURATION_WORTH_TELLING = 0.65
"""From this share on an info is given; half is usual where only one side is flat (ELU,
softplus)."""

SCALE_DRIFT_WORTH_TELLING = 1.0
"""Decades that activations drift over depth before an info is given: a tenfold change."""
SCALE_DRIFT_WARNING = 2.0
"""Decades from which it is a warning: close to where training is at risk."""

SCORE_CONCENTRATION = Limits(
    warning=0.65, warning_width=0.05, error=0.985, error_width=0.0025, error_ceiling=0.9
)
"""Variance of squashed class scores under cross_entropy, over the largest they can have. Of the
labelled networks that end so, healthy ones reach 0.0, mixed ones 0.03 … 0.95 and once 0.992; five
of the six beyond 0.98 are sick."""
RECTIFIED_LOSS = Limits(
    warning=0.3, warning_width=0.04, error=1.3, error_width=0.15, error_ceiling=0.8
)
"""Decades of the loss at start over chance, of class scores behind a ReLU. Healthy labelled
networks start at 1.1 times chance, mixed ones at 3 to 5, one at 82 is sick."""

LOSS_OFF_WORTH_TELLING = 2.0
"""Loss at start over chance before an info is given. Healthy labelled networks: median 1.1."""
LOSS_OFF_WARNING = 10.0
"""… before a warning: beyond the healthiest nine tenths."""

DISCONNECTED_WARNING = 0.25
"""Share of all parameter elements out of the loss's reach that deserves a warning; unused heads
and poolers (BERT's: 0.5 %) are usual and stay under it."""

CONCENTRATED_DROP = 0.6
"""Share of the gradient's fall that happens in one layer: then it may be a head or a branch
initialised small on purpose, and a few optimizer steps tell."""

DEFAULT_INIT_DEVIATIONS = 4.0
"""Standard deviations of sampling noise within which a weight's root mean square counts as that of
torch.nn's default initialization."""

RECOVERY = 1.0
"""Decades that the fall of the gradient must shrink in two optimizer steps to count as a beginning.
Two steps of Adam at 1e-3 lift a zero weight to about 2e-3: the gradient comes from nothing to
within a hundredth; a layer that is truly stuck does not move."""

NARROW = 3
"""Numbers per sample, at a layer that everything passes through, up to which more classes than
that are hard to tell. Of 23 labelled networks with such a layer none is healthy, and 7 of the 11
that have several are sick."""
NARROW_ONCE = (0.25, 0.95)
"""Probability that one such layer keeps a network from training, and that it puts it at risk: 2 of
12 labelled networks are sick, the others mixed."""
NARROW_AGAIN = (0.6, 0.95)
"""The same of several such layers."""
UPDATE_RATIO_WORTH_TELLING = (1e-4, 1e-2)
"""Range of ‖change by the first step‖ / ‖weight‖, median over the layers, within which training
starts well: at 3e-3 eleven of twelve small networks trained in 400 steps, at either end half to two
thirds (`python -m benchmarks.update_ratio`)."""
UPDATE_RATIO_WARNING = (1e-5, 1.0)
"""Range outside which it is a warning: of 73 trainings below none learned in 400 steps, of 35
above two."""

THEORY_DEVIATIONS = 3.0
"""Standard deviations of one layer's scatter at finite width beyond which its gain parts from
theory. Of 1517 layers of labelled networks half deviate by less than 0.15 and nine tenths by less
than 0.6 (the scatter is that of one initialization and one sample, the gain a mean over several);
beyond 3 are constant weights alone."""
THEORY_WORTH_TELLING = 0.1
"""Relative difference that it takes besides."""

REGRESSION_WORTH_TELLING = 0.5
"""Decades that a layer's gain or gradient falls against the baseline before it is told: a factor
3.2, a fifth of what puts training at risk (`GRADIENT_FALL`), so that five of them do."""
REGRESSION_FALSE_ALARM = 1e-4
"""Probability that an analysis of an unchanged model finds a regression anywhere, all comparisons
together: one in a year of thirty a day. Of 600 repeated runs of three networks with other seeds
none had one (tests/probing/test_regression.py)."""
LEAST_SCATTER = 0.02
"""Standard deviation of a logarithm that is always granted: float32 sums in another order, another
version of torch."""
EXPECTED_RANGE = (1.0, 1.128, 1.693, 2.059, 2.326, 2.534, 2.704, 2.847, 2.970, 3.078)
"""Expected range of n normal numbers in standard deviations, n = 2 … 10 (Tippett 1925; d₂ of
quality control); for one, the range over its batches is taken as it is. More than ten count as
ten, which takes the scatter for larger than it is."""


def expected_range(count: int) -> float:
    """Of `count` ≥ 1 numbers, in standard deviations."""
    return EXPECTED_RANGE[min(count, len(EXPECTED_RANGE)) - 1]


SURE = 0.9
"""Confidence of the static verdict from which no short training is asked for."""
