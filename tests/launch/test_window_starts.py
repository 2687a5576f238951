"""Where windows that train begin: at no regular distance."""

import numpy as np
import pandas as pd
import pytest

from launch.data import Windows
from launch.data.windows import starts


@pytest.mark.parametrize(("stride", "period"), [(16, 96), (32, 672), (16, 660), (32, 32), (4, 7)])
def test_windows_that_train_meet_the_phases_of_what_repeats_itself(stride, period):
  first = starts(8000, 64, stride)
  assert 8000 - 2 * stride <= first[-1] + 64 <= 8000
  np.testing.assert_array_equal(first // stride, np.arange(len(first)))
  by_chance = period * (1 - np.exp(-len(first) / period))
  assert len(np.unique(first % period)) >= 0.95 * by_chance


@pytest.mark.parametrize("folds", [0, 5])
def test_a_day_of_as_many_steps_as_a_stride_is_met_at_every_hour(tmp_path, folds):
  hours = pd.DataFrame({"hour": np.arange(16 * 200) % 16})
  hours.to_csv(tmp_path / "days.csv", index=False)
  got = Windows(train=str(tmp_path / "days.csv"), window=32, stride=16, folds=folds).load()
  assert set(np.unique(got.x_train[:, 0, 0])) == set(range(16))


@pytest.mark.parametrize("steps", [64, 65, 79, 80])
def test_a_series_of_hardly_a_window_begins_at_its_first_step(steps):
  first = starts(steps, 64, 16)
  assert (first[0], first[-1] <= steps - 64) == (0, True)
  np.testing.assert_array_equal(starts(steps, 64, 1), np.arange(steps - 63))
