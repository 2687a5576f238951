"""Images one at a time: what is read, how it is cropped, what is said of damaged ones."""

import io
import pathlib

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from launch.data import DataError, imagenette
from tests.launch import tfds_files


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """The tfds folder of the environment, empty."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  return tmp_path / "tfds"


def picture(number: int, mode: str = "RGB") -> Image.Image:
  pixels = np.random.default_rng(number).integers(0, 256, (5, 4, 3), np.uint8)
  return Image.fromarray(pixels).resize((40 + number, 30)).convert(mode)


def jpeg(number: int, mode: str = "RGB") -> bytes:
  return tfds_files.encoded(picture(number, mode), "JPEG")


def write(
  root: pathlib.Path, files: list[bytes], labels: list[int], version="1.0.0", part="train"
) -> pathlib.Path:
  """A part of imagenette."""
  folder = root / "imagenette" / "full-size-v2" / version
  feature = tfds.features.Image(encoding_format="jpeg")
  return tfds_files.write_images(folder, "imagenette", part, feature, files, labels)


def test_reads_images_and_labels(folder):
  encoded = [jpeg(number) for number in range(3)]
  write(folder, encoded, [4, 0, 9])
  source = imagenette.Imagenette("train", "full-size-v2")
  assert (source.labels.tolist(), source.labels.dtype) == ([4, 0, 9], np.int64)
  assert source.description == "imagenette/full-size-v2 train (tfds 1.0.0)"
  for row in (2, 0, 1):
    want = np.asarray(Image.open(io.BytesIO(encoded[row])))
    np.testing.assert_array_equal(np.asarray(source.image(row)), want)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_image_is_rgb(folder, mode):
  write(folder, [jpeg(0, mode)], [0])
  image = imagenette.Imagenette("train", "full-size-v2").image(0)
  assert (image.mode, image.size) == ("RGB", (40, 30))


def test_takes_the_newest_version(folder):
  for version, count in (("1.0.9", 1), ("1.0.10", 2)):
    write(folder, [jpeg(0)] * count, [0] * count, version)
  source = imagenette.Imagenette("train", "full-size-v2")
  assert (len(source.labels), source.description[-12:]) == (2, "tfds 1.0.10)")


@pytest.mark.parametrize("there", ["nothing", "another part", "tfrecord"])
def test_a_missing_set_says_what_to_run(folder, there):
  if there != "nothing":
    path = write(folder, [jpeg(0)], [0], part="validation")
  if there == "tfrecord":
    (path / "imagenette-train.tfrecord-00000-of-00001").write_bytes(b"records")
  message = (
    r"tfds has no train part of imagenette/full-size-v2 as array_record: with TensorFlow "
    r"installed \(drocc-jax\[tensorflow\]\) run python -c \"import tensorflow_datasets as tfds; "
    r"tfds\.builder\('imagenette/full-size-v2', file_format='array_record'\)"
    r"\.download_and_prepare\(\)\", or set TFDS_DATA_DIR"
  )
  with pytest.raises(DataError, match=message):
    imagenette.Imagenette("train", "full-size-v2")


@pytest.mark.parametrize("kept", [0, 300])
def test_a_damaged_image_is_named(folder, kept):
  encoded = [jpeg(number) for number in range(3)]
  write(folder, [encoded[0], encoded[1][:kept], encoded[2]], [0, 0, 1])
  source = imagenette.Imagenette("train", "full-size-v2")
  source.image(0)
  message = r"^Image 1 of the train part of imagenette in .*1\.0\.0 cannot be read, it is damaged"
  with pytest.raises(DataError, match=message):
    source.image(1)
  assert source.image(2).size == (42, 30)


@pytest.mark.parametrize("damage", ["records", "description", "cut"])
def test_a_damaged_set_is_one_sentence(folder, damage):
  path = write(folder, [jpeg(0)] * 3, [0] * 3)
  file = path / "imagenette-train.array_record-00000-of-00001"
  if damage == "records":
    file.write_bytes(b"records")
  elif damage == "cut":
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  else:
    (path / "dataset_info.json").write_text("{")
  message = r"^The train part of imagenette in .* cannot be read, it is damaged \(.*\); prepare the"
  with pytest.raises(DataError, match=message):
    imagenette.Imagenette("train", "full-size-v2")


def test_other_labels_are_refused(folder):
  write(folder, [jpeg(0)] * 2, [0, 10])
  with pytest.raises(DataError, match=r"has labels beyond 0 to 9; prepare it again"):
    imagenette.Imagenette("train", "full-size-v2")


def test_synthetic_images_follow_from_their_number():
  train = imagenette.Synthetic("train", 40, 24)
  again = imagenette.Synthetic("train", 20, 24)
  test = imagenette.Synthetic("validation", 20, 24)
  assert train.labels.tolist() == list(range(10)) * 4
  images = [np.asarray(train.image(row)) for row in (0, 10, 1)]
  assert images[0].shape == (24, 24, 3)
  np.testing.assert_array_equal(images[1], np.asarray(again.image(10)))
  assert (images[0] != images[1]).mean() > 0.5
  assert (images[0] != np.asarray(test.image(0))).mean() > 0.5


def gradient(width: int, height: int) -> Image.Image:
  """Red tells the column, green the row."""
  pixels = np.zeros((height, width, 3), np.uint8)
  pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
  return Image.fromarray(pixels)


@pytest.mark.parametrize(
  ("size", "want"), [((40, 30), (16, 12)), ((30, 40), (12, 16)), ((7, 7), (12, 12))]
)
def test_the_shorter_side_is_resized(size, want):
  assert imagenette.resized(gradient(*size), 12).size == want


def test_resizing_to_the_same_size_changes_nothing():
  np.testing.assert_array_equal(imagenette.resized(gradient(9, 8), 8), gradient(9, 8))


def test_the_centre_is_cropped():
  crop = imagenette.centre_crop(gradient(9, 8), 4)
  assert crop.shape == (4, 4, 3)
  assert crop[0, :, 0].tolist() == [2, 3, 4, 5]  # five columns are left over, two of them left
  assert crop[:, 0, 1].tolist() == [2, 3, 4, 5]


def test_random_crops_come_from_everywhere_and_half_are_mirrored():
  image, places, mirrored = gradient(7, 6), set(), []
  for seed in range(300):
    crop = imagenette.random_crop(image, 4, np.random.default_rng(seed)).astype(int)
    columns, rows = crop[0, :, 0], crop[:, 0, 1]
    mirrored.append(columns[0] > columns[-1])
    left, top = min(columns), rows[0]
    places.add((int(left), int(top)))
    assert sorted(columns) == list(range(left, left + 4))
    assert rows.tolist() == list(range(top, top + 4))
  assert places == {(left, top) for left in range(4) for top in range(3)}
  assert 0.4 < np.mean(mirrored) < 0.6


def test_a_crop_of_the_whole_image_has_one_place():
  crop = imagenette.random_crop(gradient(4, 4), 4, np.random.default_rng(0))
  assert sorted(crop[0, :, 0]) == [0, 1, 2, 3]
