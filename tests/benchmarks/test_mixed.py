"""The table of mixed records: its forms by hand, and that all of them are trained."""

import numpy as np
import pytest

from benchmarks import mixed

X = np.array([[0.0, 1.0, 0.5], [2.0, 4.0, 1.5], [0.0, 9.0, 2.5], [2.0, 1.0, 3.5]])
KNOWN = np.concatenate([X, np.stack([[0.0, 1.0, value] for value in np.arange(20.0) + 10])])


def test_by_hand_means_one_hot_and_flags():
  got = mixed.by_hand(X, KNOWN)
  np.testing.assert_array_equal(got[1], [1.0, 0.0, 1.0, 0.0, 1.5])
  assert got.shape == (4, 5)


def test_a_table_as_it_comes_has_text_and_holes():
  got = mixed.as_it_comes(X, KNOWN, 0.0, 0).to_pylist()
  assert got[2] == {"c0": "no", "c1": "kind 9", "c2": 2.5}
  assert got[1]["c0"] == "yes"
  many = mixed.as_it_comes(np.tile(X, (500, 1)), KNOWN, 0.2, 0)
  assert 0.17 < np.mean([column.null_count for column in many.columns]) / 2000 < 0.23


@pytest.mark.long
def test_every_form_of_every_set_is_trained(monkeypatch):
  rng = np.random.default_rng(0)
  x = np.stack([rng.integers(2, size=80), rng.integers(4, size=80), rng.normal(size=80)], axis=1)
  y = np.repeat([0, 1], [60, 20])
  x[60:, 2] += 8.0
  monkeypatch.setattr(mixed.real, "load", lambda name: (x.astype(float), y))
  monkeypatch.setattr(mixed, "SETS", ("adbench/one",))
  plain, notes = mixed.DROCC, []
  monkeypatch.setattr(mixed, "DROCC", lambda **given: plain(epochs=2, **given))
  records, figures = mixed.table(1, lambda count, note: notes.append(note))
  assert len(notes) == mixed.count(1)
  assert {record.method for record in records} == {*mixed.FORMS, mixed.PEER}
  (peer,) = [r for r in records if r.method == mixed.PEER and r.row == "adbench/one"]
  assert peer.mean > 95.0
  assert set(figures) == {"mixed"}


def test_what_missing_cells_are_worth_to_who_knows_the_labels(monkeypatch, rng):
  y = np.repeat([0, 1], [200, 100])
  x = rng.normal(size=(300, 3)) + np.array([3.0, 0.0, 0.0]) * y[:, None]
  monkeypatch.setattr(mixed.real, "load", lambda name: (x, y))
  monkeypatch.setattr(mixed, "SETS", ("one",))
  notes = []
  records, figures = mixed.table_missing(2, lambda count, note: notes.append(note))
  assert len(notes) == mixed.count_missing(2)
  assert not figures
  means = {record.method: record.mean for record in records if record.row == "one"}
  whole, holes = (means[method] for method in mixed.SUPERVISED)
  assert whole > 95.0
  assert whole - 20.0 < holes < whole - 3.0  # one cell in five of the only column that tells
  told = mixed.supervised(x, rng.permutation(y), 0)
  assert 0.35 < told < 0.65  # of labels that say nothing it learns nothing
