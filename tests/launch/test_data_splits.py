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
    ({"y_train": np.zeros(3)}, "3 classes for 4 training records"),
    ({"class_test": np.zeros(3)}, "3 classes for None test records"),
    ({"x_test": np.zeros((2, 2)), "class_test": np.zeros(3)}, "3 classes for 2 test records"),
    ({"x_test": np.zeros((2, 2)), "sources": np.array(["a"])}, "1 sources for 2 test records"),
  ],
)
def test_splits_refuse_what_does_not_belong_together(arguments, message):
  with pytest.raises(ValueError, match=message):
    Splits(**{"x_train": np.zeros((4, 2)), **arguments})


def flat(count: int, value: int, shape: tuple[int, ...] = (2, 2, 1)) -> np.ndarray:
  """Images of bytes that are ``value``, ``value`` + 1, ..."""
  values = np.arange(value, value + count, dtype=np.uint8)
  return np.broadcast_to(values[:, None, None, None], (count, *shape)).copy()


TRAIN, TEST = (flat(4, 51), np.array([0, 1, 0, 2])), (flat(2, 102), np.array([2, 0], np.uint8))


def test_out_of_distribution_puts_other_sets_after_the_test_images():
  others = {"b": flat(1, 255), "a": flat(3, 0)}
  got = splits.out_of_distribution(TRAIN, TEST, others, "ours")
  np.testing.assert_allclose(255 * got.x_train[:, 1, 1, 0], [51, 52, 53, 54], rtol=1e-6)
  np.testing.assert_allclose(255 * got.x_test[:, 0, 1, 0], [102, 103, 255, 0, 1, 2], rtol=1e-6)
  assert got.x_train[0, 0, 0, 0] == np.float32(0.2)
  assert got.x_train.dtype == got.x_test.dtype == np.float32
  assert got.y_train.tolist() == [0, 1, 0, 2]
  assert got.y_test.tolist() == [0, 0, 1, 1, 1, 1]
  assert got.class_test.tolist() == [2, 0, -1, -1, -1, -1]
  assert got.sources.tolist() == ["ours", "ours", "b", "a", "a", "a"]
  assert {a.dtype.name for a in (got.y_train, got.y_test, got.class_test)} == {"int64"}
  assert got.description == "all classes of ours against b, a"


@pytest.mark.parametrize(("shape", "wanted"), [((28, 28, 1), (28, 28)), ((32, 32, 3), (32, 32, 3))])
def test_out_of_distribution_says_how_to_draw(shape, wanted):
  part = flat(2, 0, shape), np.array([0, 1])
  got = splits.out_of_distribution(part, part, {"other": flat(1, 0, shape)})
  assert got.image_shape == wanted
  assert got.sources.tolist() == ["typical", "typical", "other"]


@pytest.mark.parametrize(
  ("others", "message"),
  [
    ({}, "no out-of-distribution images to test on"),
    ({"ours": flat(1, 0)}, "'ours' is the typical set, it cannot be out of distribution too"),
    ({"a": flat(1, 0, (2, 3, 1))}, r"'a' have shape \[2, 3, 1\], training images \[2, 2, 1\]"),
    ({"a": flat(1, 0).astype(np.int64)}, r"uint8, or floating point in \[0, 1\], got int64"),
    ({"a": flat(1, 9).astype(np.float32)}, r"lie in \[0, 1\], got values from 9 to 9"),
  ],
)
def test_out_of_distribution_refuses(others, message):
  with pytest.raises(ValueError, match=message):
    splits.out_of_distribution(TRAIN, TEST, others, "ours")


@pytest.mark.parametrize("x", [np.zeros((2, 4)), np.zeros((2, 4, 4, 2))])
def test_image_shape_refuses(x):
  with pytest.raises(ValueError, match=r"must be \[n, h, w, 1\] or \[n, h, w, 3\], got \[2, 4"):
    splits.image_shape(x)


def test_unit_scales_bytes_and_keeps_fractions():
  assert splits.unit(np.array([0, 51, 255], np.uint8)).tolist() == [0.0, np.float32(0.2), 1.0]
  x = np.array([0.0, 0.25, 1.0])
  assert (splits.unit(x).tolist(), splits.unit(x).dtype) == ([0.0, 0.25, 1.0], np.float32)


@pytest.fixture
def long():
  train, test = (flat(50, 0), np.arange(50) % 10), (flat(40, 50), np.arange(40) % 10)
  return splits.out_of_distribution(train, test, {"a": flat(30, 100), "b": flat(3, 200)}, "ours")


def test_limited_draws_from_each_part(long):
  got = splits.limited(long, 5, seed=0)
  assert len(got.x_train) == len(got.y_train) == 5
  assert got.sources.tolist() == ["ours"] * 5 + ["a"] * 5 + ["b"] * 3
  values = np.rint(255 * got.x_test[:, 0, 0, 0]).astype(int)
  assert (np.diff(values) > 0).all()
  np.testing.assert_array_equal(got.class_test[:5], values[:5] % 10)
  np.testing.assert_array_equal(got.y_train, np.rint(255 * got.x_train[:, 0, 0, 0]) % 10)
  assert (values >= 100).tolist() == got.y_test.astype(bool).tolist()
  assert got.image_shape == (2, 2)
  assert got.description.endswith("; at most 5 of each part, drawn with seed 0")


def test_limited_keeps_with_a_larger_limit_what_it_kept_with_a_smaller_one(long):
  few, many = (set(splits.limited(long, n, 3).x_train[:, 0, 0, 0]) for n in (5, 20))
  assert few < many
  assert few != set(splits.limited(long, 5, 4).x_train[:, 0, 0, 0])


def test_limited_to_nothing_less(long):
  assert splits.limited(long, 0, 0) is long
  got = splits.limited(long, 50, 0)
  np.testing.assert_array_equal(got.x_train, long.x_train)
  np.testing.assert_array_equal(got.x_test, long.x_test)


def test_limited_without_sources_or_test_records():
  got = splits.limited(splits.half(*numbered(21, 4), seed=3), 6, seed=0)
  assert (len(got.x_train), len(got.x_test), len(got.y_test)) == (6, 6, 6)
  got = splits.limited(Splits(np.zeros((9, 2))), 6, seed=0)
  assert (len(got.x_train), got.x_test, got.y_test) == (6, None, None)


def test_limited_refuses_a_negative_limit(long):
  with pytest.raises(ValueError, match=r"limit must be at least 0 \(all records\), got -1"):
    splits.limited(long, -1, 0)


def test_by_group_keeps_groups_whole_and_mixed_groups_out():
  """Groups 0 to 9 of four records each; group 0 has one anomaly among them."""
  x, groups = np.arange(40.0)[:, None], np.arange(40) % 10
  y = np.zeros(40, int)
  y[20] = 1
  got = splits.by_group(x, y, groups, 1 / 3, seed=2)
  train, test = got.x_train[:, 0] % 10, got.x_test[got.y_test == 0, 0] % 10
  assert sorted(np.bincount(test.astype(int), minlength=10)) == [0] * 7 + [4] * 3
  assert not set(train) & set(test)
  assert 0 not in {*train, *test}
  assert len(train) == 24
  assert got.x_test[got.y_test == 1].ravel().tolist() == [20.0]
  other = splits.by_group(x, y, groups, 1 / 3, seed=3)
  assert not np.array_equal(other.x_train, got.x_train)


@pytest.mark.parametrize(
  ("groups", "share", "message"),
  [
    (np.arange(4), 0.1, "leaves none to test"),
    (np.arange(4), 0.9, "leaves none to test, or to train on"),
    (np.arange(3), 0.5, "groups of shape"),
  ],
)
def test_by_group_refuses(groups, share, message):
  with pytest.raises(ValueError, match=message):
    splits.by_group(np.zeros((4, 1)), np.array([0, 0, 0, 1]), groups, share, 0)


def test_drawn_rows_are_sorted_distinct_and_nested():
  few, more = splits.drawn(50, 5, 1), splits.drawn(50, 9, 1)
  assert len(few) == 5
  assert (np.diff(few) > 0).all()
  assert set(few) < set(more) < set(range(50))
  assert splits.drawn(4, 0, 1).tolist() == splits.drawn(4, 9, 1).tolist() == [0, 1, 2, 3]
