"""Splits: disjoint, complete, seeded; every row carries its number, so rows can be followed."""

import numpy as np
import pytest

from launch.data import splits
from launch.data.splits import Splits


def numbered(typical: int, anomalous: int) -> tuple[np.ndarray, np.ndarray]:
  y = np.repeat([0, 1], [typical, anomalous])
  y = np.random.default_rng(1).permutation(y)
  return np.arange(len(y), dtype=np.float64)[:, None], y


@pytest.mark.parametrize("split", [splits.released, splits.half])
def test_is_disjoint_complete_and_labelled(split):
  x, y = numbered(21, 4)
  got = split(x, y, seed=3)
  assert sorted([*got.x_train[:, 0], *got.x_test[:, 0]]) == list(range(25))
  rows = got.x_test[:, 0].astype(int)
  np.testing.assert_array_equal(got.y_test, y[rows])
  assert got.y_test.dtype == np.int64
  assert not y[got.x_train[:, 0].astype(int)].any()


@pytest.mark.parametrize("split", [splits.released, splits.half])
def test_keeps_the_order_of_the_records(split):
  got = split(*numbered(21, 4), seed=3)
  assert (np.diff(got.x_train[:, 0]) > 0).all()
  assert (np.diff(got.x_test[:, 0]) > 0).all()


@pytest.mark.parametrize("split", [splits.released, splits.half])
def test_depends_on_the_seed_alone(split):
  x, y = numbered(40, 5)
  np.testing.assert_array_equal(split(x, y, 0).x_train, split(x, y, 0).x_train)
  assert not np.array_equal(split(x, y, 0).x_train, split(x, y, 1).x_train)


def test_released_tests_on_as_many_typical_as_anomalous_records():
  got = splits.released(*numbered(21, 4), seed=0)
  assert np.bincount(got.y_test).tolist() == [4, 4]
  assert len(got.x_train) == 17


def test_released_draws_every_typical_record_for_the_test_sometimes():
  x, y = numbered(6, 2)
  drawn = [splits.released(x, y, seed) for seed in range(60)]
  seen = {row for got in drawn for row in got.x_test[got.y_test == 0, 0]}
  assert seen == set(x[y == 0, 0])


def test_half_trains_on_the_smaller_half():
  got = splits.half(*numbered(21, 4), seed=0)
  assert len(got.x_train) == 10
  assert np.bincount(got.y_test).tolist() == [11, 4]


def test_released_needs_more_typical_than_anomalous_records():
  with pytest.raises(ValueError, match=r"all 4 anomalies.*leaves none of 4.*'half'"):
    splits.released(*numbered(4, 4), seed=0)


def test_half_needs_two_typical_records():
  with pytest.raises(ValueError, match="at least 2 typical records, got 1"):
    splits.half(*numbered(1, 4), seed=0)


@pytest.mark.parametrize("split", [splits.released, splits.half])
@pytest.mark.parametrize(
  ("y", "message"),
  [
    ([0, 0, 2], "0 \\(typical\\) or 1"),
    ([0, 0, 0], "no anomalous records"),
    ([0, 1], "3 records, but labels of shape \\[2\\]"),
    ([[0], [0], [1]], "labels of shape \\[3, 1\\]"),
  ],
)
def test_refuses_labels(split, y, message):
  with pytest.raises(ValueError, match=message):
    split(np.zeros((3, 2)), np.array(y), 0)


def test_one_vs_rest_trains_on_one_class_and_tests_on_all():
  x_train, y_train = np.arange(6, dtype=np.uint8).reshape(6, 1, 1), np.array([0, 1, 2, 1, 0, 1])
  x_test, y_test = np.arange(10, 13, dtype=np.uint8).reshape(3, 1, 1), np.array([2, 1, 0])
  got = splits.one_vs_rest(x_train, y_train, x_test, y_test, typical=1)
  assert got.x_train.ravel().tolist() == [1.0, 3.0, 5.0]
  assert got.x_test.ravel().tolist() == [10.0, 11.0, 12.0]
  assert got.y_test.tolist() == [1, 0, 1]
  assert (got.x_train.dtype, got.x_test.dtype) == (np.float32, np.float32)


def test_one_vs_rest_lists_the_classes_there_are():
  with pytest.raises(ValueError, match="is of class 7; classes are: 0, 1"):
    splits.one_vs_rest(np.zeros((2, 1)), np.array([0, 1]), np.zeros((1, 1)), np.array([0]), 7)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"x_train": np.zeros((0, 2))}, "no typical records"),
    ({"x_test": np.zeros((2, 3))}, "shape \\[2\\], test records \\[3\\]"),
    ({"x_test": np.zeros((2, 2)), "y_test": np.zeros(3)}, "3 test labels for 2 test"),
    ({"y_test": np.zeros(3)}, "3 test labels for None"),
    ({"feature_names": ("a",)}, "1 feature names for records \\[2\\]"),
  ],
)
def test_splits_refuse_what_does_not_belong_together(arguments, message):
  with pytest.raises(ValueError, match=message):
    Splits(**{"x_train": np.zeros((4, 2)), **arguments})
