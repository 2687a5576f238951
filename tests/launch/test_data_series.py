"""Epilepsy: both forms of its file, both splits, and one sentence for what cannot be used."""

import numpy as np
import pytest

from launch import data
from launch.data import DataError, series


def written(folder, pieces=3, recordings=40, form="npz", **change):
  """A small set of the same form: recordings 0 to 7 are seizures; x holds the row's number."""
  number = np.arange(pieces * recordings)
  recording = number % recordings
  names = np.array([f"V1.{each}" for each in recording])
  arrays = {
    "x": np.repeat(number[:, None], series.SAMPLES, axis=1).astype(np.int16),
    "y": np.where(recording < 8, 1, 2 + recording % 4).astype(np.uint8),
    "recording": names,
  } | change
  arrays = {name: value for name, value in arrays.items() if value is not None}
  if form == "npz":
    np.savez(folder / "epilepsy.npz", **arrays)
    return
  header = ["", *(f"X{n}" for n in range(1, series.SAMPLES + 1)), "y"]
  rows = [
    ",".join([f"X{place // recordings}.{name}", *map(str, x), str(y)])
    for place, (name, x, y) in enumerate(
      zip(names, arrays["x"].tolist(), arrays["y"].tolist(), strict=True)
    )
  ]
  (folder / "epilepsy.csv").write_text("\n".join([",".join(header), *rows]) + "\n")


@pytest.mark.parametrize("form", ["npz", "csv"])
def test_no_recording_is_on_both_sides(tmp_path, form):
  written(tmp_path, form=form)
  got = series.epilepsy("recording", 0, tmp_path)
  train, test = (set((x[:, 0, 0] % 40).astype(int)) for x in (got.x_train, got.x_test))
  assert not train & test
  assert len(train) == 24
  assert len(test) == 8 + 8
  assert got.x_train.shape == (24 * 3, series.SAMPLES, 1)
  np.testing.assert_array_equal(got.y_test, got.x_test[:, 0, 0] % 40 < 8)


def test_both_forms_of_the_file_are_the_same_set(tmp_path):
  for form in ("npz", "csv"):
    (tmp_path / form).mkdir()
    written(tmp_path / form, form=form)
  ours, theirs = (series.epilepsy("released", 3, tmp_path / form) for form in ("npz", "csv"))
  np.testing.assert_array_equal(ours.x_train, theirs.x_train)
  np.testing.assert_array_equal(ours.y_test, theirs.y_test)


def test_the_released_split_tests_on_as_many_typical_pieces_as_seizures(tmp_path):
  written(tmp_path)
  got = series.epilepsy("released", 0, tmp_path)
  assert np.bincount(got.y_test).tolist() == [24, 24]
  assert len(got.x_train) == 120 - 48


def test_it_is_a_data_set_of_the_launcher(tmp_path, monkeypatch):
  written(tmp_path)
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  got = data.Epilepsy(split="recording", seed=1).load()
  assert got.description.startswith("epilepsy; split by group (8 of 32 typical ones test), seed 1")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"recording": None}, "has no array 'recording', it has 'x', 'y'"),
    ({"x": np.zeros((120, 9))}, r"holds x \[120, 9\], y \[120\] and 120 recordings where"),
    ({"y": np.full(120, 7)}, "classes other than 1 to 5"),
    ({"x": np.full((120, 178), np.nan)}, "values that are not finite"),
  ],
)
def test_refuses_another_file(tmp_path, change, message):
  written(tmp_path, **change)
  with pytest.raises(DataError, match=message):
    series.epilepsy("released", 0, tmp_path)


def test_refuses_what_is_damaged_missing_or_unknown(tmp_path, monkeypatch):
  with pytest.raises(DataError, match=r"There is no file .*epilepsy.npz or epilepsy.csv: put"):
    series.epilepsy("released", 0, tmp_path)
  (tmp_path / "epilepsy.npz").write_bytes(b"PK\x03\x04 broken")
  with pytest.raises(DataError, match=r"epilepsy.npz cannot be read, it is damaged .*; write"):
    series.epilepsy("released", 0, tmp_path)
  with pytest.raises(DataError, match="split by one of released, recording; got 'half'"):
    series.epilepsy("half", 0, tmp_path)
  monkeypatch.delenv("OOD_DATA_DIR", raising=False)
  with pytest.raises(DataError, match="set OOD_DATA_DIR"):
    series.epilepsy("released", 0)


@pytest.mark.data
def test_counts_are_those_of_the_manifest(data_dir):
  got = series.epilepsy("recording", 0, data_dir)
  assert got.x_train.shape == (6900, 178, 1)
  assert np.bincount(got.y_test).tolist() == [2300, 2300]
