"""The scores of windows told step by step."""

import numpy as np
import pandas as pd
import pytest

import detector_jax
from detector_jax.preprocessing import Identity
from launch import scoring
from launch.steps import StepWriter


def test_windows_without_a_score_have_their_steps(tmp_path):
  detector = detector_jax.Detector.create(
    lambda v, x: x[:, 0, 0] * v, np.float32(1), Identity(), (4, 1)
  )
  np.save(tmp_path / "x.npy", np.append(np.arange(8.0), np.nan)[:, None])
  output = tmp_path / "scores.csv"
  scoring.score_input(detector, str(tmp_path / "x.npy"), output, stride=2, on_bad_row="nan")
  got = pd.read_csv(output)
  np.testing.assert_array_equal(got[["first", "last"]], [[0, 3], [2, 5], [4, 7]])
  np.save(tmp_path / "x.npy", np.append(np.arange(7.0), np.nan)[:, None])
  scoring.score_input(detector, str(tmp_path / "x.npy"), output, stride=2, on_bad_row="nan")
  got = pd.read_csv(output)
  np.testing.assert_array_equal(got[["first", "last"]], [[0, 3], [2, 5], [4, 7]])
  assert got["score"].isna().tolist() == [False, False, True]


def test_steps_have_the_mean_of_their_windows(tmp_path):
  output = tmp_path / "steps.csv"
  with StepWriter(output, 2.5) as writer:
    score = np.ma.masked_array([1.0, 4.0], [False, False])
    writer.write({"first": np.array([0, 2]), "last": np.array([3, 5]), "score": score})
    writer.write({"first": np.array([6]), "last": np.array([9]), "score": np.ma.masked_all(1)})
    writer.write({"first": np.array([8]), "last": np.array([11]), "score": np.array([7.0])})
    writer.finish(14)
  got = pd.read_csv(output)
  assert got["step"].tolist() == list(range(14))
  want = [1, 1, 2.5, 2.5, 4, 4, np.nan, np.nan, 7, 7, 7, 7, np.nan, np.nan]
  np.testing.assert_array_equal(got["score"], want)
  decision = [0, 0, 0, 0, 1, 1, np.nan, np.nan, 1, 1, 1, 1, np.nan, np.nan]
  np.testing.assert_array_equal(got["decision"], decision)


@pytest.mark.parametrize("on_bad_row", ["skip", "nan"])
def test_steps_after_the_last_window_have_rows(tmp_path, on_bad_row):
  detector = detector_jax.Detector.create(
    lambda v, x: x[:, 0, 0] * v, np.float32(1), Identity(), (4, 1)
  )
  path, output = str(tmp_path / "x.npy"), tmp_path / "scores.csv"
  np.save(path, np.append(np.arange(8.0), [np.nan] * 6)[:, None])
  scoring.score_input(detector, path, output, stride=3, on_bad_row=on_bad_row, steps=True)
  got = pd.read_csv(output)
  np.testing.assert_array_equal(got["step"], range(14))
  np.testing.assert_array_equal(got["score"].isna(), [False] * 7 + [True] * 7)
