"""Image sets: what is read from where, and the sentence for each source that cannot be used."""

import pathlib

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from launch.data import DataError, images
from tests.launch import tfds_files

GRAY = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), np.uint8)
Y = np.array([3, 1, 4, 1, 5, 9], np.uint8)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
  """Both folders of the environment, empty."""
  for variable, name in (("TFDS_DATA_DIR", "tfds"), ("OOD_DATA_DIR", "npz")):
    (tmp_path / name).mkdir()
    monkeypatch.setenv(variable, str(tmp_path / name))


@pytest.fixture
def npz(tmp_path):
  def write(name, **arrays):
    path = tmp_path / "npz" / name
    np.savez(path, **arrays)
    return path

  return write


def write_tfds(root: pathlib.Path, name: str, version: str, x: np.ndarray, y: np.ndarray) -> None:
  """The test part of a set."""
  files = [tfds_files.encoded(Image.fromarray(pixels.squeeze()), "PNG") for pixels in x]
  feature = tfds.features.Image(shape=x.shape[1:])
  tfds_files.write_images(root / name / version, name, "test", feature, files, y)


MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
SVHN_TEST = [614, 2640, 2062, 1368, 1185, 1006, 870, 847, 716, 692]


@pytest.mark.data
@pytest.mark.parametrize(
  ("name", "split", "shape", "counts", "description"),
  [
    ("mnist", "train", (28, 28, 1), MNIST_TRAIN, "MNIST train"),
    ("mnist", "test", (28, 28, 1), MNIST_TEST, "MNIST test"),
    ("fashion_mnist", "train", (28, 28, 1), [6000] * 10, "Fashion-MNIST train"),
    ("fashion_mnist", "test", (28, 28, 1), [1000] * 10, "Fashion-MNIST test"),
    ("cifar10", "train", (32, 32, 3), [5000] * 10, "CIFAR-10 train"),
    ("cifar10", "test", (32, 32, 3), [1000] * 10, "CIFAR-10 test"),
    ("svhn_cropped", "test", (32, 32, 1), SVHN_TEST, "SVHN test, grey subset of 12,000"),
  ],
)
def test_counts_are_those_of_the_manifest(data_dir, name, split, shape, counts, description):
  got = images.load(name, split, data_dir)
  assert (got.x.shape, got.x.dtype) == ((sum(counts), *shape), np.uint8)
  assert (np.bincount(got.y).tolist(), got.y.dtype) == (counts, np.int64)
  assert got.description == description


@pytest.mark.data
@pytest.mark.parametrize(
  ("name", "mean"),
  [("mnist", [0.13066]), ("fashion_mnist", [0.28604]), ("cifar10", [0.4914, 0.48216, 0.44653])],
)
def test_means_are_those_of_the_manifest(data_dir, name, mean):
  x = images.load(name, "train", data_dir).x
  np.testing.assert_allclose(x.mean(axis=(0, 1, 2)) / 255, mean, atol=6e-6)


def test_reads_npz_of_the_environment(npz):
  npz("mnist.npz", x_train=GRAY, y_train=Y, x_test=GRAY[:2], y_test=Y[:2])
  train, test = images.load("mnist", "train"), images.load("mnist", "test")
  np.testing.assert_array_equal(train.x, GRAY[..., None])
  assert (train.y.tolist(), train.y.dtype) == (Y.tolist(), np.int64)
  assert (train.description, len(test.x)) == ("MNIST train, subset of 6", 2)


def test_reads_the_folder_that_was_asked_for(npz, tmp_path):
  write_tfds(tmp_path / "tfds", "cifar10", "3.0.2", COLOUR[:1], Y[:1])
  path = npz("cifar10.npz", x_test=COLOUR, y_test=Y)
  assert len(images.load("cifar10", "test", path.parent).x) == 6


TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}


@pytest.mark.parametrize(("name", "title"), [*TITLES.items(), ("svhn_cropped", "SVHN")])
def test_reads_tfds(tmp_path, name, title):
  x = GRAY[..., None] if "mnist" in name else COLOUR
  write_tfds(tmp_path / "tfds", name, "3.0.1", x, Y)
  got = images.load(name, "test")
  np.testing.assert_array_equal(got.x, x)
  assert (got.x.dtype, got.y.dtype, got.y.tolist()) == (np.uint8, np.int64, Y.tolist())
  assert got.description == f"{title} test, subset of 6 (tfds 3.0.1)"


def test_tfds_goes_first_and_its_newest_version(npz, tmp_path):
  npz("mnist.npz", x_test=GRAY, y_test=Y, x_train=GRAY, y_train=Y)
  for version, count in (("3.0.9", 2), ("3.0.10", 3), ("3.0.1", 4)):
    write_tfds(tmp_path / "tfds", "mnist", version, GRAY[:count, ..., None], Y[:count])
  assert images.load("mnist", "test").description == "MNIST test, subset of 3 (tfds 3.0.10)"
  assert images.load("mnist", "train").description == "MNIST train, subset of 6"


def test_tfds_is_sought_at_home(tmp_path, monkeypatch):
  monkeypatch.delenv("TFDS_DATA_DIR")
  monkeypatch.setenv("HOME", str(tmp_path))
  write_tfds(tmp_path / "tensorflow_datasets", "mnist", "3.0.1", GRAY[..., None], Y)
  np.testing.assert_array_equal(images.load("mnist", "test").y, Y)


def test_tfrecord_is_passed_over(npz, tmp_path):
  folder = tmp_path / "tfds" / "mnist" / "3.0.1"
  folder.mkdir(parents=True)
  (folder / "mnist-test.tfrecord-00000-of-00001").write_bytes(b"records")
  npz("mnist.npz", x_test=GRAY, y_test=Y)
  assert images.load("mnist", "test").description == "MNIST test, subset of 6"


def test_damaged_tfds_is_one_sentence(tmp_path):
  write_tfds(tmp_path / "tfds", "mnist", "3.0.1", GRAY[..., None], Y)
  folder = tmp_path / "tfds" / "mnist" / "3.0.1"
  (folder / "mnist-test.array_record-00000-of-00001").write_bytes(b"records")
  for _ in range(2):
    with pytest.raises(DataError, match=r"3\.0\.1 cannot be read by tfds \(.*\); write it again,"):
      images.load("mnist", "test")
    (folder / "dataset_info.json").unlink(missing_ok=True)


def test_tfds_with_other_images_is_refused(tmp_path):
  write_tfds(tmp_path / "tfds", "mnist", "3.0.1", COLOUR, Y)
  with pytest.raises(
    DataError, match=r"3\.0\.1 holds images uint8 \[6, 32, 32, 3\] where uint8 \[n"
  ):
    images.load("mnist", "test")


BAD = {
  "no key": ({"x_train": GRAY}, "mnist.npz has no array 'x_test', it has 'x_train': set OOD_DATA_"),
  "no labels": ({"x_test": GRAY}, "mnist.npz has no array 'y_test', it has 'x_test': set OOD_DATA"),
  "size": (
    {"x_test": COLOUR, "y_test": Y},
    r"\[6, 32, 32, 3\] where uint8 \[n, 28, 28, 1\] belong",
  ),
  "axes": ({"x_test": GRAY[0], "y_test": Y}, r"holds images uint8 \[28, 28\] where uint8 \[n, 28"),
  "type": (
    {"x_test": GRAY / 255, "y_test": Y},
    r"holds images float64 \[6, 28, 28, 1\] where uint8",
  ),
  "nothing": ({"x_test": GRAY[:0], "y_test": Y[:0]}, "mnist.npz holds no images; get the right"),
  "labels": ({"x_test": GRAY, "y_test": Y[:5]}, r"holds labels uint8 \[5\] for 6 images; get the"),
  "label type": ({"x_test": GRAY, "y_test": Y / 1}, r"holds labels float64 \[6\] for 6 images"),
  "label range": (
    {"x_test": GRAY, "y_test": Y + 1},
    "holds labels from 2 to 10 where 0 to 9 belong",
  ),
  "objects": (
    {"x_test": np.array([{}]), "y_test": Y},
    "mnist.npz cannot be read, it is damaged or",
  ),
}


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD)
def test_foreign_npz_is_one_sentence(npz, arrays, message):
  npz("mnist.npz", **arrays)
  with pytest.raises(DataError, match=message) as caught:
    images.load("mnist", "test")
  assert str(caught.value).endswith(".")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", "cut", "npy"])
def test_damaged_npz_is_one_sentence(npz, content):
  path = npz("mnist.npz", x_test=GRAY, y_test=Y)
  if content == "npy":
    with path.open("wb") as file:
      np.save(file, GRAY)
  else:
    path.write_bytes(path.read_bytes()[:2000] if content == "cut" else content)
  with pytest.raises(DataError, match=r"mnist\.npz cannot be read, it is damaged or not a \.npz"):
    images.load("mnist", "test")


def test_says_what_to_set(monkeypatch):
  with pytest.raises(DataError, match=r"There is no file .*mnist\.npz: set OOD_DATA_DIR to the"):
    images.load("mnist", "test")
  monkeypatch.delenv("OOD_DATA_DIR")
  message = (
    r"'cifar10' is not in the tfds folder: set OOD_DATA_DIR .* cifar10\.npz, or TFDS_DATA_DIR"
  )
  with pytest.raises(DataError, match=message):
    images.load("cifar10", "test")
  with pytest.raises(
    DataError, match="train part of svhn_cropped is read from tfds alone: set TFDS"
  ):
    images.load("svhn_cropped", "train")


def test_refuses_unknown_names():
  message = "no image set 'mnits'; there are: mnist, fashion_mnist, cifar10, svhn_cropped"
  with pytest.raises(DataError, match=message):
    images.load("mnits", "test")
  with pytest.raises(DataError, match="no part 'validation' of mnist; there are: train, test"):
    images.load("mnist", "validation")


def test_to_gray_is_luma():
  x = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [1, 2, 3]], np.uint8)
  got = images.to_gray(x.reshape(1, 1, 5, 3))
  assert (got.shape, got.dtype) == ((1, 1, 5, 1), np.uint8)
  assert got.ravel().tolist() == [76, 150, 29, 255, 2]  # 76.245, 149.685, 29.07, 255, 1.815


def test_to_gray_keeps_gray():
  ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  assert images.to_gray(ramp) is ramp
  np.testing.assert_array_equal(images.to_gray(np.repeat(ramp, 3, axis=-1)), ramp)


def test_resize_averages_where_it_shrinks():
  x = np.zeros((1, 8, 8, 1), np.uint8)
  x[:, :, 4:] = 200
  # Weights 1 - |pixel centre - 2| / 4 over the first six pixels: the last two have 1/7 of them.
  assert images.resize(x, (2, 2))[0, ..., 0].tolist() == [[29, 171], [29, 171]]
  stripes = np.tile(np.array([0, 200], np.uint8), (1, 16, 8))[..., None]
  assert set(images.resize(stripes, (4, 4)).ravel().tolist()) <= set(range(90, 111))


def test_resize_interpolates_where_it_grows():
  x = np.array([0, 100], np.uint8).reshape(1, 1, 2, 1)
  assert images.resize(x, (1, 4)).ravel().tolist() == [0, 25, 75, 100]


def test_resize_takes_channels_apart_and_keeps_constants():
  got = images.resize(COLOUR, (20, 28))
  assert (got.shape, got.dtype) == ((6, 20, 28, 3), np.uint8)
  for channel in range(3):
    one = images.resize(COLOUR[..., channel : channel + 1], (20, 28))
    np.testing.assert_array_equal(got[..., channel], one[..., 0])
  constant = np.full((2, 5, 7, 3), (10, 20, 30), np.uint8)
  assert (images.resize(constant, (9, 3)) == (10, 20, 30)).all()
  assert images.resize(COLOUR, (32, 32)) is COLOUR
  assert images.resize(COLOUR[:0], (8, 8)).shape == (0, 8, 8, 3)


def test_turned_images_are_flipped_or_not_and_turned_by_their_own_angle():
  x = np.zeros((400, 15, 15, 1), np.uint8)
  x[:, 7, 10] = 255  # three pixels to the right of the centre
  got = images.turned(x, 90.0, 0)
  assert (got.shape, got.dtype) == (x.shape, np.uint8)
  np.testing.assert_array_equal(got, images.turned(x, 90.0, 0))
  assert not np.array_equal(got, images.turned(x, 90.0, 1))
  weight = got[..., 0] / np.maximum(got.sum(axis=(1, 2)), 1.0)[:, None]
  rows, columns = np.mgrid[-7.0:8.0, -7.0:8.0]
  down, right = (np.sum(weight * place, axis=(1, 2)) for place in (rows, columns))
  np.testing.assert_allclose(np.hypot(down, right), 3.0, atol=0.25)
  assert 0.4 < np.mean(right < 0.0) < 0.6, "half are flipped"
  angle = np.degrees(np.arctan2(-down, np.abs(right)))
  assert angle.min() < -80.0
  assert angle.max() > 80.0
  assert 0.4 < np.mean(np.abs(angle) < 45.0) < 0.6, "angles are uniform"


def test_turned_images_have_no_black_corners_and_keep_their_channels():
  constant = np.full((20, 16, 16, 3), (10, 120, 250), np.uint8)
  np.testing.assert_array_equal(images.turned(constant, 30.0, 0), constant)
  tiny = images.turned(COLOUR, 1e-6, 3)
  flipped = COLOUR[:, :, ::-1]
  for got, left, right in zip(tiny, COLOUR, flipped, strict=True):
    off = [np.abs(got - each.astype(float)).max() for each in (left, right)]
    assert min(off) <= 1.0


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
def test_as_shape_greys(shape):
  got = images.as_shape(COLOUR, shape)
  np.testing.assert_array_equal(got, images.resize(images.to_gray(COLOUR), (28, 28)))


def test_as_shape_repeats_gray():
  got = images.as_shape(GRAY[..., None], (32, 32, 3))
  assert got.shape == (6, 32, 32, 3)
  wanted = images.resize(GRAY[..., None], (32, 32))
  np.testing.assert_array_equal(got, np.repeat(wanted, 3, axis=-1))
  np.testing.assert_array_equal(images.as_shape(COLOUR, (32, 32, 3)), COLOUR)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: images.to_gray(GRAY), r"uint8 \[n, h, w, 1\] or .*, got uint8 \[6, 28, 28\]"),
    (lambda: images.resize(COLOUR / 255, (8, 8)), r"got float64 \[6, 32, 32, 3\]"),
    (lambda: images.resize(COLOUR[..., :2], (8, 8)), r"got uint8 \[6, 32, 32, 2\]"),
    (lambda: images.resize(COLOUR, (0, 8)), "at least 1 x 1, got 0 x 8"),
    (lambda: images.as_shape(COLOUR, (8, 8, 2)), r"shape \(h, w\), .*, got \(8, 8, 2\)"),
    (lambda: images.turned(GRAY, 30.0, 0), r"got uint8 \[6, 28, 28\]"),
    (lambda: images.turned(COLOUR, -30.0, 0), r"in \(0, 180\] degrees, got -30.0"),
    (lambda: images.as_shape(COLOUR, (8,)), r"shape \(h, w\), .*, got \(8,\)"),
  ],
)
def test_refuses_what_is_no_image(call, message):
  with pytest.raises(ValueError, match=message):
    call()
