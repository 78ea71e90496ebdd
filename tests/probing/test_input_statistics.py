"""What the caller's data look like, against NumPy."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from service.domain.architecture import resolve
from service.domain.probe_plan import ProbePlan
from service.probing.data import Data
from service.probing.input_statistics import input_statistics
from service.probing.session import Session


def test_statistics_equal_numpy() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (200, 5)).astype("float32")
    x[:, 1] *= 100.0
    x[:, 4] = 7.0
    (seen,) = input_statistics(Data((torch.from_numpy(x),), None), channels_first=False)
    wide = x.astype("float64")
    varied = wide[:, :4]
    sizes = np.sqrt((varied**2).mean(0))
    assert seen.mean == pytest.approx(wide.mean())
    assert seen.std == pytest.approx(wide.std())
    assert seen.rms == pytest.approx(np.sqrt((wide**2).mean()))
    assert (seen.features, seen.constant_features) == (5, 1)
    assert seen.feature_rms_p25 == pytest.approx(np.quantile(sizes, 0.25))
    assert seen.feature_rms_max == pytest.approx(sizes.max())
    offsets = np.abs(varied.mean(0)) / varied.std(0)
    assert seen.feature_offset_p50 == pytest.approx(np.median(offsets))


def test_features_are_channels_where_a_convolution_reads() -> None:
    x = torch.randn(10, 3, 4, 5)
    (columns,) = input_statistics(Data((x,), None), channels_first=False)
    (channels,) = input_statistics(Data((x,), None), channels_first=True)
    assert (columns.features, channels.features) == (5, 3)


def test_integers_and_broken_data_have_none() -> None:
    tokens, broken = torch.ones(4, 3, dtype=torch.int64), torch.full((4, 3), float("nan"))
    fine = torch.zeros(4, 3)
    (seen,) = input_statistics(Data((tokens, broken, fine), None), channels_first=False)
    assert seen.index == 2
    assert (seen.constant_features, seen.feature_rms_max) == (3, None)


@pytest.mark.parametrize("answers", [False, True])
def test_a_probe_of_data_says_what_they_are(answers: bool) -> None:
    spec = {"input": {"shape": [4]}, "layers": [{"type": "Linear", "args": {"out_features": 3}}]}
    file = io.BytesIO()
    x = np.full((8, 4), 50.0, np.float32)
    if answers:
        np.savez(file, x=x, y=np.arange(8) % 3)
    else:
        np.savez(file, x=x)
    session = Session.open(ProbePlan(seeds=1), resolve(spec), None, data=file.getvalue())
    model = session.measure().model
    assert [seen.mean for seen in model.inputs] == [50.0]
    assert model.answers_given is answers
    drawn = Session.open(ProbePlan(seeds=1), resolve(spec), None).measure().model
    assert drawn.inputs == ()
    assert not drawn.answers_given
