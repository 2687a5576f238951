"""Data with limited negatives: masks, which image is where, the noisy sine, files, and limits."""

import numpy as np
import pytest
from sklearn import datasets

from launch.data import (
  Digits,
  NoisySine,
  OneClassImages,
  bundled,
  negatives,
  splits,
  synthetic,
)
from launch.data.splits import Labelled, Splits


@pytest.mark.parametrize(
  ("shape", "share", "masked"),
  [
    ((5, 8, 8, 1), 0.5, 32),
    ((3, 5, 7, 3), 0.4, 14),
    ((2, 4, 4, 2), 0.1, 2),
    ((2, 4, 4, 1), 0.9, 14),
  ],
)
def test_mask_sets_an_exact_share_of_each_image(rng, shape, share, masked):
  x = rng.uniform(0.1, 1.0, shape).astype(np.float32)
  before = x.copy()
  got = negatives.mask_pixels(x, share, rng)
  assert (got.shape, got.dtype) == (x.shape, x.dtype)
  gone = got == 0.0
  np.testing.assert_array_equal(gone.all(axis=-1), gone.any(axis=-1))  # all channels of a pixel
  assert gone[..., 0].sum(axis=(1, 2)).tolist() == [masked] * shape[0]
  np.testing.assert_array_equal(got[~gone], x[~gone])
  np.testing.assert_array_equal(x, before)


def test_masks_differ_by_image_and_reach_every_pixel(rng):
  gone = negatives.mask_pixels(np.ones((200, 4, 6, 1)), 0.5, rng)[..., 0] == 0.0
  assert len({mask.tobytes() for mask in gone}) == 200
  assert 0.35 < gone.mean(axis=0).min() < gone.mean(axis=0).max() < 0.65


def numbered(typical: int, given: int, other: int, first: int) -> tuple[np.ndarray, np.ndarray]:
  """Images of classes 3, 5, 6 and 1 (twice ``other``), whose pixels all say which image it is."""
  classes = np.repeat([3, 5, 6, 1], [typical, given, other, other])
  classes = np.random.default_rng(first).permutation(classes)
  values = (first + np.arange(len(classes))) / 1000.0
  return np.broadcast_to(values[:, None, None, None], (len(classes), 4, 4, 1)).copy(), classes


TRAIN, TEST = numbered(30, 20, 7, 1), numbered(16, 9, 5, 501)


def numbers(x: np.ndarray) -> list[int]:
  """Which images these are, masked or not."""
  return np.rint(1000 * x.max(axis=(1, 2, 3))).astype(int).tolist()


def of_class(part: tuple[np.ndarray, np.ndarray], *classes: int) -> set[int]:
  return set(numbers(part[0][np.isin(part[1], classes)]))


def classes_split(masked: float = 0.5, seed: int = 0, **settings) -> Splits:
  return negatives.masked_classes(TRAIN, TEST, 3, (5, 6), masked, seed, **settings)


def test_every_image_is_in_one_place():
  got = classes_split()
  places = [got.x_train, got.negatives, got.validation.x, got.x_test]
  every = [number for x in places for number in numbers(x)]
  assert len(every) == len(set(every))
  assert set(every) == of_class(TRAIN, 3, 5, 6) | of_class(TEST, 3, 5, 6)
  assert set(numbers(got.x_train)) < of_class(TRAIN, 3)
  assert set(numbers(got.negatives)) < of_class(TRAIN, 5, 6)
  assert set(numbers(got.validation.x)) < of_class(TRAIN, 3, 5, 6)
  assert set(numbers(got.x_test)) == of_class(TEST, 3, 5, 6)


def test_counts_sources_and_labels():
  """Of 30 typical images 6 validate, of 27 negatives 5; of each measured set half is masked."""
  got = classes_split()
  assert (len(got.x_train), len(got.negatives)) == (24, 22)
  for part, counts in (
    (got.validation, {"typical": 3, "negative": 5, "masked": 3}),
    (Labelled(got.x_test, got.y_test, got.sources), {"typical": 8, "negative": 14, "masked": 8}),
  ):
    names, found = np.unique(part.sources, return_counts=True)
    assert dict(zip(names.tolist(), found.tolist(), strict=True)) == counts
    np.testing.assert_array_equal(part.y, part.sources != "typical")
    assert part.y.dtype == np.int64
  assert got.x_train.dtype == got.negatives.dtype == got.x_test.dtype == np.float32
  assert got.image_shape == (4, 4)
  assert got.description == (
    "class 3 against 22 given negatives of class 5, 6 and against itself with 50% of the pixels "
    "masked, seed 0"
  )


@pytest.mark.parametrize(("masked", "gone"), [(0.25, 4), (0.5, 8)])
def test_only_masked_typical_images_have_masked_pixels(masked, gone):
  got = classes_split(masked)
  for x, sources, images in (
    (got.x_test, got.sources, TEST),
    (got.validation.x, got.validation.sources, TRAIN),
  ):
    counts = (x == 0.0).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(counts, np.where(sources == "masked", gone, 0))
    assert set(numbers(x[sources != "negative"])) <= of_class(images, 3)
    assert set(numbers(x[sources == "negative"])) <= of_class(images, 5, 6)
  assert (got.x_train > 0.0).all()
  assert (got.negatives > 0.0).all()


def test_another_mask_changes_nothing_but_the_masked_images():
  """A method that is trained once can be measured on both."""
  weak, strong = classes_split(0.25), classes_split(0.5)
  for one, two in (
    (weak.x_train, strong.x_train),
    (weak.negatives, strong.negatives),
    (weak.x_test[weak.sources != "masked"], strong.x_test[strong.sources != "masked"]),
    (weak.validation.y, strong.validation.y),
  ):
    np.testing.assert_array_equal(one, two)
  assert numbers(weak.x_test) == numbers(strong.x_test)


def test_splits_depend_on_the_seed():
  one, two, other = classes_split(seed=1), classes_split(seed=1), classes_split(seed=2)
  np.testing.assert_array_equal(one.x_test, two.x_test)
  np.testing.assert_array_equal(one.x_train, two.x_train)
  assert set(numbers(one.x_train)) != set(numbers(other.x_train))
  masked = [numbers(split.x_test[split.sources == "masked"]) for split in (one, other)]
  assert masked[0] != masked[1]


def test_the_share_that_validates():
  got = classes_split(validation=0.5)
  assert (len(got.x_train), len(got.negatives), len(got.validation.x)) == (15, 13, 15 + 14)


def test_four_images_of_each_class_are_enough_for_every_part():
  small = numbered(4, 4, 0, 1)
  got = negatives.masked_classes(small, small, 3, (5,), 0.5, 0)
  assert (len(got.x_train), len(got.negatives)) == (2, 2)
  assert set(got.validation.sources) == set(got.sources) == {"typical", "negative", "masked"}


def test_bytes_and_colours_become_fractions():
  x = np.full((20, 4, 4, 3), 51, np.uint8)
  part = x, np.repeat([0, 1], 10)
  got = negatives.masked_classes(part, part, 0, [1], 0.5, 0)
  assert np.unique(got.x_train).tolist() == [np.float32(0.2)]
  assert np.unique(got.x_test).tolist() == [0.0, np.float32(0.2)]
  assert got.image_shape == (4, 4, 3)


@pytest.mark.parametrize(
  ("typical", "given", "masked", "message"),
  [
    (3, (5,), 0.0, r"^masked must be in \(0, 1\), got 0\.0\.$"),
    (3, (5,), 1.0, r"^masked must be in \(0, 1\), got 1\.0\.$"),
    (3, (5,), float("nan"), r"^masked must be in \(0, 1\), got nan\.$"),
    (3, (5, 3), 0.5, r"^Class 3 cannot be typical and negative at once\.$"),
    (8, (5,), 0.5, r"^Class 8 has fewer than 4 images; classes are: 1, 3, 5, 6\.$"),
    (3, (5, 9), 0.5, r"^Class 9 has fewer than 4 images; classes are: 1, 3, 5, 6\.$"),
  ],
)
def test_masked_classes_refuses(typical, given, masked, message):
  with pytest.raises(ValueError, match=message):
    negatives.masked_classes(TRAIN, TEST, typical, given, masked, 0)


# The sine among coordinates of noise.


def shift(x: np.ndarray) -> np.ndarray:
  return x[:, 1] - np.sin(x[:, 0])


@pytest.fixture(scope="module")
def noisy() -> Splits:
  return synthetic.noisy_sine(0, 0.4, num=400)


def test_noisy_sine_is_the_sine_and_noise(noisy):
  plain = synthetic.sine(0, 0.4, num=400)
  np.testing.assert_array_equal(noisy.x_train[:, :2], plain.x_train)
  np.testing.assert_array_equal(noisy.x_test[:, :2], plain.x_test)
  np.testing.assert_array_equal(noisy.y_test, plain.y_test)
  assert noisy.x_train.shape == noisy.x_test.shape == noisy.negatives.shape == (400, 10)
  assert noisy.feature_names == ("t", "y", *(f"noise {i}" for i in range(8)))
  noise = np.concatenate([noisy.x_train, noisy.x_test, noisy.negatives, noisy.validation.x])[:, 2:]
  assert len(np.unique(noise)) == noise.size  # no draw is used twice
  np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=4 / np.sqrt(len(noise)))
  np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=4 / np.sqrt(2 * len(noise)))
  assert (
    np.abs(np.corrcoef(np.column_stack([noisy.y_test, noisy.x_test[:, 2:]]).T)[0, 1:]).max() < 0.2
  )


def test_noisy_sine_shifts_anomalies_and_given_negatives(noisy):
  np.testing.assert_allclose(shift(noisy.x_train), 0.0, atol=1e-12)
  np.testing.assert_allclose(shift(noisy.x_test[noisy.y_test == 0]), 0.0, atol=1e-12)
  anomalous, validated = shift(noisy.x_test[noisy.y_test == 1]), noisy.validation
  np.testing.assert_allclose(np.abs(anomalous), 0.4, rtol=1e-9)
  np.testing.assert_allclose(np.abs(shift(noisy.negatives)), 2.0, rtol=1e-9)
  for each in (anomalous, shift(noisy.negatives), shift(validated.x[validated.y == 1])):
    assert (each > 0).sum() == (each < 0).sum()
  np.testing.assert_allclose(np.abs(shift(validated.x)), 2.0 * validated.y, atol=1e-9)
  np.testing.assert_array_equal(validated.sources == "negative", validated.y == 1)
  assert np.bincount(validated.y).tolist() == [200, 200]
  assert noisy.description == (
    "sine wave against itself shifted by 0.4 up and down, seed 0, with 8 coordinates of noise and "
    "400 given negatives shifted by 2"
  )


def test_training_records_do_not_depend_on_the_displacement(noisy):
  far = synthetic.noisy_sine(0, 1.0, num=400)
  for one, two in (
    (noisy.x_train, far.x_train),
    (noisy.negatives, far.negatives),
    (noisy.validation.x, far.validation.x),
    (noisy.x_test[noisy.y_test == 0], far.x_test[far.y_test == 0]),
  ):
    np.testing.assert_array_equal(one, two)
  assert not np.array_equal(noisy.x_test, far.x_test)
  other = synthetic.noisy_sine(1, 0.4, num=400)
  assert not set(other.x_train.ravel()) & set(noisy.x_train.ravel())
  parts = [noisy.x_train, noisy.x_test, noisy.negatives, noisy.validation.x]
  times = np.concatenate(parts)[:, 0]
  assert len(np.unique(times)) == len(times)  # all records are fresh


def test_noisy_sine_with_other_numbers():
  got = synthetic.noisy_sine(0, 0.4, num=10, noise=0, given=1.5)
  assert got.x_train.shape == got.negatives.shape == got.validation.x.shape == (10, 2)
  np.testing.assert_allclose(np.abs(shift(got.negatives)), 1.5, rtol=1e-9)
  assert synthetic.noisy_sine(0, 0.4).x_train.shape == (1024, 10)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"noise": -1}, "^noise must be at least 0, got -1"),
    ({"given": 0.0}, r"^given must be > 0, got 0\.0"),
    ({"given": float("inf")}, "^given must be > 0, got inf"),
    ({"displacement": -0.1}, r"^displacement must be > 0, got -0\.1"),
    ({"num": 5}, "^num must be even and at least 2, got 5"),
  ],
)
def test_noisy_sine_refuses(settings, message):
  with pytest.raises(ValueError, match=message):
    synthetic.noisy_sine(0, **{"displacement": 0.4, **settings})


# The one door.


def test_digits_with_negatives():
  """Images of 8 x 8; of 178 zeros and 182 ones two thirds train, of which a fifth validates."""
  got = Digits(typical=0, negatives=(1,), seed=3).load()
  wanted = negatives.masked_classes(*bundled.digit_images(3), 0, (1,), 0.5, 3)
  np.testing.assert_array_equal(got.x_train, wanted.x_train)
  np.testing.assert_array_equal(got.x_test, wanted.x_test)
  assert got.x_train.shape[1:] == (8, 8, 1)
  assert len(got.x_train) + (got.validation.sources != "negative").sum() == pytest.approx(
    119, abs=1
  )
  assert len(got.negatives) + (got.validation.sources == "negative").sum() == pytest.approx(
    121, abs=1
  )
  assert got.description == f"scikit-learn's digits; {wanted.description}"
  whole = datasets.load_digits()
  ones = {row.tobytes() for row in (whole.images[whole.target == 1] / 16).astype(np.float32)}
  assert all(image[..., 0].tobytes() in ones for image in got.negatives)


def test_settings_reach_the_data():
  weak = Digits(typical=2, negatives=(7, 8), masked=0.25).load()
  share = (weak.x_test[weak.sources == "masked"] == 0.0).mean()
  plain = (weak.x_test[weak.sources == "typical"] == 0.0).mean()
  assert share == pytest.approx(0.25 + 0.75 * plain, abs=0.03)
  assert "class 2 against" in weak.description
  assert "of class 7, 8" in weak.description
  got = NoisySine(displacement=0.3, seed=5).load()
  wanted = synthetic.noisy_sine(5, 0.3)
  np.testing.assert_array_equal(got.x_test, wanted.x_test)
  np.testing.assert_array_equal(got.negatives, wanted.negatives)


def test_image_sets_with_negatives(tmp_path, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  x, y = np.random.default_rng(0).integers(1, 256, (200, 28, 28), np.uint8), np.arange(200) % 10
  np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
  got = OneClassImages(name="mnist", negatives=(1,)).load()
  assert (got.x_train.shape, got.negatives.shape) == ((16, 28, 28, 1), (16, 28, 28, 1))
  assert len(got.x_test) == 20
  assert got.description.startswith(
    "MNIST train, subset of 200, MNIST test, subset of 100; class 0"
  )


def test_without_negatives_nothing_changes():
  got = Digits().load()
  assert (got.negatives, got.validation) == (None, None)
  assert got.x_train.shape == (89, 64)


# Parts and limits.


def test_limit_holds_for_negatives_and_validation_records():
  got = splits.limited(classes_split(), 4, seed=0)
  assert (len(got.x_train), len(got.negatives), len(got.x_test)) == (4, 4, 12)
  names, counts = np.unique(got.validation.sources, return_counts=True)
  assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
    "masked": 3,
    "negative": 4,
    "typical": 3,
  }
  np.testing.assert_array_equal(got.validation.y, got.validation.sources != "typical")
  whole = classes_split()
  assert set(numbers(got.negatives)) < set(numbers(whole.negatives))
  kept = dict(zip(numbers(whole.validation.x), whole.validation.sources.tolist(), strict=True))
  assert [kept[number] for number in numbers(got.validation.x)] == got.validation.sources.tolist()
  more = splits.limited(classes_split(), 9, seed=0)
  assert set(numbers(got.negatives)) < set(numbers(more.negatives))
  assert NoisySine(limit=20).load().negatives.shape == (20, 10)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"negatives": np.zeros((2, 3))}, r"records have shape \[2\], negatives \[3\]"),
    (
      {"validation": Labelled(np.zeros((1, 3)), np.zeros(1), np.zeros(1))},
      r"records have shape \[2\], validation records \[3\]",
    ),
  ],
)
def test_splits_refuse_other_shapes(arguments, message):
  with pytest.raises(ValueError, match=message):
    Splits(np.zeros((4, 2)), **arguments)


def test_labelled_records_must_belong_together():
  with pytest.raises(ValueError, match="There are 2 records, 3 labels and 2 sources"):
    Labelled(np.zeros((2, 1)), np.zeros(3), np.zeros(2))
