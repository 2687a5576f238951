"""Long series: how they are cut, what a window's label is, and scores by step."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

import detector_jax
from detector_jax.preprocessing import Identity
from detector_jax.program import flatten
from launch import evaluation, run, scoring, sweeping
from launch.data import DataError, Windows, windows
from launch.data.formats import csv_text
from launch.data.formats.reader import Piece
from launch.data.windows import cut, starts, window_pieces
from launch.methods import in_turn
from launch.methods.drocc import Config, FeaturesConfig
from launch.reporting import timeline

STEPS = 900


def series(steps: int, odd: slice | None = None, seed: int = 0) -> pd.DataFrame:
  rng = np.random.default_rng(seed)
  time = np.arange(steps)
  value = np.sin(time / 3.0) + 0.05 * rng.normal(size=steps)
  label = np.zeros(steps, int)
  if odd is not None:
    value[odd], label[odd] = 0.0, 1
  frame = {"time": time * 5, "value": value, "other": np.cos(time / 3.0), "odd": label}
  return pd.DataFrame(frame)


@pytest.fixture
def source(tmp_path):
  series(STEPS).drop(columns="odd").to_csv(tmp_path / "train.csv", index=False)
  series(300, slice(200, 220), 1).to_csv(tmp_path / "test.csv", index=False)
  return Windows(
    train=str(tmp_path / "train.csv"),
    test=str(tmp_path / "test.csv"),
    label="odd",
    time="time",
    window=20,
    stride=4,
  )


def test_windows_by_hand():
  x = np.arange(14.0).reshape(7, 2)
  got = cut(x, 3, 2, "x")
  np.testing.assert_array_equal(got[:, :, 0], [[0, 2, 4], [4, 6, 8], [8, 10, 12]])
  assert got.shape == (3, 3, 2)


def test_a_window_is_anomalous_where_any_of_its_steps_is(source):
  got = source.load()
  assert got.x_train.shape[1:] == (20, 2)
  assert got.feature_names == ("value", "other")
  first = np.arange(len(got.x_test)) * 4
  np.testing.assert_array_equal(got.y_test, (first + 19 >= 200) & (first < 220))
  assert got.description == (
    "train.csv, windows of 20, 4 steps apart in the mean, of which 45 fit side by side"
  )


def test_groups_share_no_step(source):
  source.folds = 0
  got = source.load()
  assert got.stretches is None
  steps = [set(np.round(got.x_train[got.groups == g][..., 0].ravel(), 12)) for g in range(20)]
  assert all(not one & two for i, one in enumerate(steps) for two in steps[:i])
  assert len(np.unique(got.groups)) == 20


def test_stretches_are_of_first_and_last_steps(source):
  source.folds = 3
  got = source.load()
  first = starts(STEPS, 20, 4)
  assert (len(got.x_train), got.groups) == (len(first), None)
  np.testing.assert_array_equal(got.stretches, np.stack([first // 300, (first + 19) // 300], 1))
  np.testing.assert_array_equal(
    np.unique(dataclasses.replace(source, folds=None).load().stretches), range(5)
  )
  source.limit = 10
  few = source.load()
  rows = [int(np.argwhere((got.x_train == x).all(axis=(1, 2)))[0, 0]) for x in few.x_train]
  np.testing.assert_array_equal(few.stretches, got.stretches[rows])


def test_enough_windows_are_held_out(source, monkeypatch):
  monkeypatch.setattr(windows, "ENOUGH", 45)
  assert source.load().stretches is None
  monkeypatch.setattr(windows, "ENOUGH", 46)
  assert source.load().stretches is not None


def test_each_stretch_is_scored_by_what_saw_nothing_of_it():
  x = cut(np.arange(30.0)[:, None], 4, 1, "x")
  stretches = np.stack([np.arange(27), np.arange(27) + 3], axis=1) // 10
  trained = []

  class Seen:
    def __init__(self, rows, name):
      self.steps, self.name = set(x[rows].ravel()), name
      trained.append(self)

    def score(self, records, warn=True):
      assert not warn
      assert not self.steps & set(records.ravel())
      return records[:, 0, 0]

  got = in_turn.scores(x, stretches, Seen)
  np.testing.assert_array_equal(got, [*range(7), *range(10, 17), *range(20, 27)])
  assert [each.name for each in trained] == [f"without_stretch_{k}" for k in (1, 2, 3)]
  assert [len(each.steps) for each in trained] == [20, 20, 20]
  with pytest.raises(ValueError, match="within one stretch of the series alone"):
    in_turn.scores(x, np.zeros((27, 2), int), Seen)


@pytest.mark.parametrize(
  "change", [{"contamination": 0.1}, {"features": FeaturesConfig("patches", defects=True)}]
)
def test_what_is_of_held_out_records_wants_some(source, change, tmp_path):
  with pytest.raises(ValueError, match=r"are for held-out records: set data\.folds=0"):
    run.train(Config(data=source, **change), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_sweep_holds_records_out(source):
  with pytest.raises(ValueError, match=r"held out: set data\.folds=0"):
    sweeping._experiment(Config(data=source))


def test_a_series_of_another_file_is_cut_as_pieces_of_any_size(rng):
  x = rng.normal(size=(57, 2))
  want = cut(x, 10, 3, "x")
  for size in (1, 7, 10, 57):
    parts = [Piece(x[i : i + size], i, None, "x", str) for i in range(0, 57, size)]
    pieces = list(window_pieces(parts, 10, 3, "x"))
    np.testing.assert_array_equal(np.concatenate([piece.x for piece in pieces]), want)
    assert [piece.start for piece in pieces] == np.cumsum(
      [0, *(len(piece.x) for piece in pieces[:-1])]
    ).tolist()


def test_a_bad_step_is_named(rng):
  x = rng.normal(size=(30, 2))
  x[17, 1] = np.nan
  (piece,) = window_pieces([Piece(x, 0, None, "x", str)], 5, 5, "x.csv")
  assert np.flatnonzero(~np.isfinite(piece.x).all(axis=(1, 2))).tolist() == [3]
  assert piece.explain(3) == "step 17 of x.csv holds no number in a channel"
  with pytest.raises(DataError, match="fewer steps than a window of 31"):
    list(window_pieces([Piece(x, 0, None, "x", str)], 31, 5, "x.csv"))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"fpr": 0.001}, "0.001 needs at least 999 different calibration records, got"),
    ({"fpr": 0.05, "confidence": 2.0}, "confidence must be in"),
    ({"calibration": "cross"}, "data.folds"),
    ({"calibration": "none"}, "data.folds"),
    ({"calibration_size": 0.5}, "calibration_size is of single records, .* data.folds=0; got 0.5"),
    ({"calibration_size": 7.0}, "data.folds"),
  ],
)
def test_what_stretches_cannot_defend_is_refused_before_training(source, settings, message):
  config = Config(data=source, **settings)

  def never(*_):
    raise AssertionError("It was trained.")

  with pytest.raises(ValueError, match=message):
    in_turn.detector(config, source.load(), never)


def test_from_a_series_to_events_and_scores(source, tmp_path, monkeypatch):
  units, inner, scale = [], in_turn.scores, "variables/stats/constants/scale"

  def seen(x, stretches, trained):
    def kept(rows, name):
      found = trained(rows, name)
      units.append(np.asarray(flatten(found.arrays)[scale]))
      return found

    return inner(x, stretches, kept)

  monkeypatch.setattr(in_turn, "scores", seen)
  config = Config(
    data=source,
    features=FeaturesConfig("patches", centroids=8, window=5, pool=2, components=8),
    epochs=60,
    checkpoints=1,
  )
  run.train(config, tmp_path / "run")
  result = evaluation.evaluate(tmp_path / "run")
  ends = source.load().stretches
  assert result["detector"]["calibration_records"] == (ends[:, 0] == ends[:, 1]).sum() < len(ends)
  assert (
    "scored by detectors that had trained without their stretch" in result["detector"]["summary"]
  )
  assert (result["series"]["events"], result["series"]["events_found"]) == (1, 1)
  assert (tmp_path / "run" / "series.png").stat().st_size > 1000
  assert "1 of 1 anomalous stretches" in (tmp_path / "run" / "report.html").read_text()
  detector = detector_jax.load(tmp_path / "run" / "detector")
  assert detector.rate.endswith(", by cross-validation")
  np.testing.assert_array_equal(units, [detector.arrays[scale]] * 5)
  output = tmp_path / "scores.csv"
  scoring.score_input(detector, source.test, output, stride=4)
  found = pd.read_csv(output)
  assert found.columns[:2].tolist() == ["first", "last"]
  np.testing.assert_array_equal(found["last"] - found["first"], np.full(len(found), 19))
  want = detector.score(source.load().x_test)
  np.testing.assert_allclose(found["score"], want, rtol=1e-6)
  best = found.iloc[found["score"].argmax()]
  assert best["first"] < 220 <= best["last"] + 20
  json.dumps(result)
  scoring.score_input(detector, source.test, output, stride=4, steps=True)
  steps = pd.read_csv(output)
  assert steps.columns.tolist() == ["step", "score", "decision"]
  holding = (found["first"] <= 101) & (found["last"] >= 101)
  assert holding.sum() == 5
  assert steps["score"][101] == pytest.approx(found["score"][holding].mean(), rel=1e-5)
  for wrong in ({}, {"stride": 4, "explain": True}):
    with pytest.raises(DataError, match="give --steps with --stride, and --explain without"):
      scoring.score_input(detector, source.test, output, steps=True, **wrong)


def test_events_and_false_alarms_by_hand():
  labels = np.array([0, 0, 1, 1, 0, 0, 1, 0, 0, 0])
  flagged = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 1], bool)
  assert timeline.runs(flagged) == [(0, 0), (3, 4), (8, 9)]
  assert timeline.events(labels, flagged) == {"events": 2, "events_found": 1, "false_alarms": 2}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"train": ""}, "needs a series to train on"),
    ({"window": 1}, "window must be >= 2 and stride >= 0, got 1 and 4"),
    ({"folds": 1}, "folds must be 0 or at least 2, got 1"),
    ({"folds": 46}, r"900 steps, fewer than 46 windows of 20 side by side"),
    ({"window": 1000}, r"train\.csv has 900 steps, fewer than a window of 1000"),
    ({"time": "when"}, "no time column 'when'; it has 'time', 'value', 'other'"),
    ({"label": "evil"}, "no label column 'evil'"),
  ],
)
def test_what_cannot_be_cut_is_one_sentence(source, change, message):
  for name, value in change.items():
    setattr(source, name, value)
  with pytest.raises(DataError, match=message):
    source.load()


def test_a_gap_in_time_is_named(source, tmp_path):
  frame = series(STEPS).drop(columns="odd").drop(index=[100, 101])
  frame.to_csv(tmp_path / "train.csv", index=False)
  with pytest.raises(DataError, match=r"'time' of .* goes from 495 to 510 after record 99 where"):
    source.load()
  frame["time"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(frame["time"], unit="s")
  frame.to_csv(tmp_path / "train.csv", index=False)
  with pytest.raises(DataError, match=r"from 2026-01-01 00:08:15 to 2026-01-01 00:08:30 after rec"):
    source.load()


def test_time_that_falls_is_to_be_sorted(source, tmp_path):
  frame = series(STEPS).drop(columns="odd")[::-1]
  frame.to_csv(tmp_path / "train.csv", index=False)
  with pytest.raises(DataError, match=r"'time' of .* falls, from \d+ to \d+ after record 0: sort"):
    source.load()


@pytest.mark.parametrize(
  ("cell", "message"),
  [
    ("", r"NaN or nothing in column 'value', line 102 \(30 such .*; fill them, or take the clean"),
    ("off", r"holds text, 'off' in line 102; encode it as numbers .* or remove it\.$"),
  ],
)
def test_a_stretch_without_numbers_is_named(source, tmp_path, cell, message):
  frame = series(STEPS).drop(columns="odd").astype({"value": object})
  frame.loc[100:129, "value"] = cell
  frame.to_csv(tmp_path / "train.csv", index=False)
  with pytest.raises(DataError, match=message):
    source.load()


def test_what_is_no_series_is_said_to_be_none(source, tmp_path):
  source.train = str(tmp_path)
  with pytest.raises(DataError, match="is a folder; a series is one file"):
    source.load()
  np.save(tmp_path / "x.npy", np.zeros((30, 20, 2)))
  source.train = str(tmp_path / "x.npy")
  with pytest.raises(DataError, match=r"x.npy has shape \[30, 20, 2\]; a series is \[time, chan"):
    Windows(train=source.train, window=5).load()
  piece = Piece(np.zeros((30, 20, 2)), 0, 1.0, "x.npy", lambda row: None)
  with pytest.raises(DataError, match=r"x.npy has records of 2 axes; a series is \[time, channels"):
    next(window_pieces([piece], 5, 1, "x.npy"))


def test_times_of_the_calendar_are_times(source, tmp_path):
  want = source.load()
  frame = pd.read_csv(tmp_path / "train.csv")
  times = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(frame["time"], unit="s")
  frame.assign(time=times.map(pd.Timestamp.isoformat)).to_csv(tmp_path / "train.csv", index=False)
  np.testing.assert_array_equal(source.load().x_train, want.x_train)
  frame.assign(time="now").to_csv(tmp_path / "train.csv", index=False)
  with pytest.raises(DataError, match=r"'time' of .* holds 'now' in record 0, no number"):
    source.load()


@pytest.mark.parametrize("block", [90, 2**23])
def test_windows_over_a_gap_get_no_score(tmp_path, monkeypatch, block):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
  detector = detector_jax.Detector.create(
    lambda v, x: x[:, 0, 0] * v,
    np.float32(1),
    Identity(),
    (10, 2),
    metadata={"feature_names": ["value", "other"], "config": {"data": {"time": "time"}}},
  )
  path, output = str(tmp_path / "x.csv"), tmp_path / "scores.csv"
  series(60).drop(index=[32, 33]).to_csv(path, index=False)
  with pytest.raises(DataError, match=r"Step 32 of .*x\.csv does not follow the one before it in"):
    scoring.score_input(detector, path, output, stride=4)
  scoring.score_input(detector, path, output, stride=4, on_bad_row="skip")
  first = pd.read_csv(output)["first"]
  assert first.tolist() == [0, 4, 8, 12, 16, 20, 32, 36, 40, 44, 48]
  scoring.score_input(detector, path, output, stride=4, on_bad_row="nan", steps=True)
  steps = pd.read_csv(output)
  np.testing.assert_array_equal(steps["step"], range(58))
  assert steps["step"][steps["score"].isna()].tolist() == [30, 31]


@pytest.mark.parametrize("ending", ["npy", "csv"])
def test_a_long_series_wants_a_stride(tmp_path, ending):
  detector = detector_jax.Detector.create(
    lambda v, x: x[:, 0, 0] * v, np.float32(1), Identity(), (8, 2)
  )
  path, x = tmp_path / f"x.{ending}", np.zeros((30, 2))
  np.save(path, x) if ending == "npy" else np.savetxt(path, x, delimiter=",")
  with pytest.raises(DataError, match=r"a long series, .* windows of 8 steps: .* --stride=2"):
    scoring.score_input(detector, str(path), tmp_path / "s.csv")


def test_a_stride_is_for_series_alone(tmp_path):
  detector = detector_jax.Detector.create(
    lambda v, x: x[:, 0] * v, np.float32(1), detector_jax.Standardizer.fit(np.eye(3)), (3,)
  )
  np.save(tmp_path / "x.npy", np.eye(3))
  with pytest.raises(ValueError, match=r"A stride is for windows of series"):
    scoring.score_input(detector, str(tmp_path / "x.npy"), tmp_path / "s.csv", stride=2)


def test_test_columns_are_matched_by_name(source, tmp_path):
  want = source.load()
  frame = series(300, slice(200, 220), 1)
  frame.assign(more=7.0)[["odd", "other", "more", "time", "value"]].to_csv(
    tmp_path / "test.csv", index=False
  )
  got = source.load()
  np.testing.assert_array_equal(got.x_test, want.x_test)
  np.testing.assert_array_equal(got.y_test, want.y_test)


def test_training_windows_with_an_anomalous_step_are_left_out(source, tmp_path):
  series(STEPS, slice(400, 410)).to_csv(tmp_path / "train.csv", index=False)
  got = source.load()
  dirty = np.concatenate(got.x_train[..., 0]) == 0.0
  assert not dirty.any()
  series(STEPS, slice(0, STEPS)).to_csv(tmp_path / "train.csv", index=False)
  with pytest.raises(DataError, match="leaves no window to train on"):
    source.load()


@pytest.mark.parametrize("size", [5, 50, 1000])
def test_a_stride_beyond_the_window_leaves_gaps_wherever_pieces_end(rng, size):
  x = rng.normal(size=(1000, 2))
  want = cut(x, 8, 20, "x")
  parts = [Piece(x[i : i + size], i, None, "x", str) for i in range(0, 1000, size)]
  got = np.concatenate([piece.x for piece in window_pieces(parts, 8, 20, "x")])
  np.testing.assert_array_equal(got, want)
