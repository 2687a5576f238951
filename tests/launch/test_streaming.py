"""Streams of images: which, in which order, cropped how; memory, threads, and what is refused."""

import contextlib
import dataclasses
import os
import pathlib
import resource
import threading
import time

import numpy as np
from PIL import Image
import pytest

from launch.data import DataError, streaming
from launch.data.imagenette import Synthetic, centre_crop, resized
from launch.data.streaming import Crops, Stream, StreamConfig

CONFIG = StreamConfig(
  name="synthetic", resize=14, crop=10, side=16, records=60, threads=2, prefetch=4
)


def stream(batch_size=4, seed=0, rows=11, **changes) -> Stream:
  config = dataclasses.replace(CONFIG, **changes)
  return Stream(streaming.open_source(config, "train"), np.arange(rows), batch_size, seed, config)


def taken(batches) -> list[streaming.Batch]:
  return list(batches)


def assert_same(got, want) -> None:
  assert len(got) == len(want)
  for one, other in zip(got, want, strict=True):
    for a, b in zip(one, other, strict=True):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)


def rows_of(batches) -> list[int]:
  return [int(row) for batch in batches for row in batch.rows[batch.mask > 0]]


def by_row(batches) -> dict[int, np.ndarray]:
  """Pixels of each image of some batches."""
  return {
    int(row): pixels
    for batch in batches
    for row, pixels, real in zip(batch.rows, batch.pixels, batch.mask, strict=True)
    if real
  }


def test_an_epoch_shows_every_image_once_and_is_padded():
  batches = taken(stream().batches(0, 3))
  assert [batch.mask.tolist() for batch in batches] == [[1] * 4, [1] * 4, [1, 1, 1, 0]]
  assert sorted(rows_of(batches)) == list(range(11))
  batch = batches[-1]
  assert (batch.pixels.shape, batch.pixels.dtype) == ((4, 10, 10, 3), np.uint8)
  assert (batch.mask.dtype, batch.rows.dtype) == (np.float32, np.int32)
  assert not batch.pixels[3].any()
  assert all(pixels.std() > 5 for pixels in batch.pixels[:3])


def test_rows_are_numbers_of_the_source():
  chosen = dataclasses.replace(stream(), rows=np.array([3, 50, 7]))
  assert sorted(rows_of(chosen.batches(0, 1))) == [3, 7, 50]


def test_batches_follow_from_the_number_of_the_step():
  whole = taken(stream().batches(0, 7))
  assert_same(taken(stream().batches(0, 7)), whole)
  parts = []
  for first, last in ((0, 2), (2, 3), (3, 7)):
    parts += taken(stream().batches(first, last))
  assert_same(parts, whole)


@pytest.mark.parametrize("reading", [{"threads": 1, "prefetch": 1}, {"threads": 4, "prefetch": 64}])
def test_threads_and_reading_ahead_change_nothing(reading):
  assert_same(taken(stream(**reading).batches(0, 4)), taken(stream().batches(0, 4)))


def test_epochs_and_seeds_have_orders_of_their_own():
  def orders(seed):
    batches = taken(stream(seed=seed).batches(0, 6))
    return tuple(rows_of(batches[:3])), tuple(rows_of(batches[3:]))

  # Grain's own shuffle gives epoch 1 of seed 0 the order of epoch 0 of seed 1.
  assert len({*orders(0), *orders(1)}) == 4
  assert orders(0) == orders(0)


def test_crops_follow_from_seed_epoch_and_image():
  second = by_row(stream().batches(3, 6))
  # Other batches, and other images in other places.
  for other in (stream(batch_size=11).batches(1, 2), stream(batch_size=2, rows=7).batches(4, 8)):
    images = by_row(other)
    assert len(images) in (7, 11)
    for row, pixels in images.items():
      np.testing.assert_array_equal(pixels, second[row])


@pytest.mark.parametrize("other", ["epoch", "seed"])
def test_other_epochs_and_seeds_crop_differently(other):
  first = by_row(stream().batches(0, 3))
  if other == "epoch":
    images = by_row(stream().batches(3, 6))
  else:
    images = by_row(stream(seed=1).batches(0, 3))
  assert sum((images[row] != pixels).any() for row, pixels in first.items()) >= 9


def test_training_images_are_pieces_of_the_resized_ones():
  for row, pixels in by_row(stream().batches(0, 3)).items():
    image = np.asarray(resized(stream().source.image(row), 14))
    pieces = [
      image[top : top + 10, left : left + 10][:, ::step]
      for top in range(5)
      for left in range(5)
      for step in (1, -1)
    ]
    assert any((pixels == piece).all() for piece in pieces)


def test_crops_are_an_array_that_is_read_on_demand():
  source = streaming.open_source(CONFIG, "validation")
  crops = Crops(source, np.array([5, 3, 29, 0]), CONFIG)
  want = np.stack([centre_crop(resized(source.image(row), 14), 10) for row in (5, 3, 29, 0)])
  want = want / np.float32(255.0)
  assert (crops.shape, len(crops)) == ((4, 10, 10, 3), 4)
  np.testing.assert_array_equal(crops[2], want[2])
  np.testing.assert_array_equal(crops[np.int64(2)], want[2])
  np.testing.assert_array_equal(crops[1:3], want[1:3])
  np.testing.assert_array_equal(crops[np.array([3, 0])], want[[3, 0]])
  assert crops[:0].shape == (0, 10, 10, 3)
  assert crops[:].dtype == np.float32
  batches = list(crops.batches(3))
  assert [len(batch) for batch in batches] == [3, 1]
  np.testing.assert_array_equal(np.concatenate(batches), want)


def test_statistics_are_those_of_the_channels():
  crops = Crops(streaming.open_source(CONFIG, "train"), np.arange(40), CONFIG)
  mean, deviation = streaming.channel_statistics(crops, 0)
  x = crops[:].astype(np.float64)
  np.testing.assert_allclose(mean, x.mean(axis=(0, 1, 2)), rtol=1e-6)
  np.testing.assert_allclose(deviation, x.std(axis=(0, 1, 2)), rtol=1e-6)


def test_statistics_are_of_a_sample_that_the_seed_draws():
  class Spy(Synthetic):
    def image(self, row):
      read.append(row)
      return super().image(row)

  crops = Crops(Spy("train", 60, 16), np.arange(20, 50), dataclasses.replace(CONFIG, statistics=6))
  samples = []
  for seed in (0, 0, 1):
    read: list[int] = []
    samples.append((streaming.channel_statistics(crops, seed)[0].tolist(), sorted(read)))
  assert len(set(samples[0][1])) == 6
  assert set(samples[0][1]) <= set(range(20, 50))
  assert samples[0] == samples[1]
  assert samples[0] != samples[2]


def test_a_constant_channel_is_refused():
  class Red(Synthetic):
    def image(self, row):
      red, green, _ = super().image(row).split()
      return Image.merge("RGB", (red, green, Image.new("L", red.size, 7)))

  crops = Crops(Red("train", 60, 16), np.arange(5), CONFIG)
  with pytest.raises(DataError, match=r"channel is constant over a sample of synthetic train"):
    streaming.channel_statistics(crops, 0)


def test_load_is_one_class_against_the_rest():
  splits = streaming.load(dataclasses.replace(CONFIG, typical=3))
  assert splits.x_train.rows.tolist() == [3, 13, 23, 33, 43, 53]
  assert splits.x_test.rows.tolist() == list(range(30))
  assert splits.y_test.tolist() == [int(row % 10 != 3) for row in range(30)]
  assert splits.image_shape == (10, 10, 3)
  assert splits.description == (
    "synthetic train, 60 images of 16 x 16, synthetic validation, 30 images of 16 x 16; class 3 "
    "(chain_saw) against the rest"
  )
  assert (splits.x_train[0] != splits.x_test[3]).any()


def test_a_class_without_images_is_refused(monkeypatch):
  class Half(Synthetic):
    def __init__(self, *given):
      super().__init__(*given)
      self.labels = self.labels % 5

  monkeypatch.setattr(streaming, "Synthetic", Half)
  with pytest.raises(DataError, match=r"synthetic train, .* has no image of class 7; choose"):
    streaming.load(dataclasses.replace(CONFIG, typical=7))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"name": "imagenet"}, r"no stream 'imagenet'; there are: imagenette, synthetic"),
    ({"typical": 10}, "typical must be from 0 to 9, got 10"),
    ({"crop": 0}, "crop must be at least 1, got 0"),
    ({"threads": 0}, "threads must be at least 1, got 0"),
    ({"prefetch": 0}, "prefetch must be at least 1, got 0"),
    ({"statistics": 0}, "statistics must be at least 1, got 0"),
    ({"resize": 9}, "resize must be at least crop, 10, got 9"),
    ({"records": 10}, "records must be at least 20, got 10"),
  ],
)
def test_settings_out_of_range_are_named(changes, message):
  with pytest.raises(DataError, match=message):
    streaming.load(dataclasses.replace(CONFIG, **changes))


class Scorer:
  """Mean of the pixels as a score; remembers how many records came at a time."""

  batch_size = 7

  def __init__(self):
    self.sizes = []

  def score(self, x, warn=True):
    self.sizes.append(len(x))
    return np.asarray(x).mean(axis=(1, 2, 3))


def test_crops_are_scored_as_they_are_read():
  crops = Crops(streaming.open_source(CONFIG, "train"), np.arange(60), CONFIG)
  scorer = Scorer()
  scores = streaming.score(scorer, crops)
  np.testing.assert_array_equal(scores, crops[:].mean(axis=(1, 2, 3)))
  assert scorer.sizes == [35, 25]  # whole batches of the detector
  np.testing.assert_array_equal(streaming.score(Scorer(), crops[:]), scores)


def readers() -> list[str]:
  return [thread.name for thread in threading.enumerate() if "grain" in thread.name]


def assert_no_readers() -> None:
  deadline = time.monotonic() + 5.0
  while readers() and time.monotonic() < deadline:
    time.sleep(0.01)
  assert readers() == []


def test_threads_end_with_the_stream():
  taken(stream().batches(0, 2))
  assert_no_readers()


def test_threads_end_where_a_stream_is_left():
  with contextlib.closing(stream(prefetch=64).batches(0, 10_000)) as batches:
    next(batches)
    assert len(readers()) == 2
  assert_no_readers()


def test_a_damaged_image_stops_the_stream_and_its_threads():
  class Damaged(Synthetic):
    def image(self, row):
      if row == 7:
        raise DataError("Image 7 of the train part cannot be read.")
      return super().image(row)

  chosen = dataclasses.replace(stream(batch_size=1), source=Damaged("train", 60, 16))
  order = rows_of(stream(batch_size=1).batches(0, 11))
  batches = chosen.batches(0, 11)
  assert [next(batches).rows[0] for _ in range(order.index(7))] == order[: order.index(7)]
  with pytest.raises(DataError, match=r"^Image 7 of the train part cannot be read\."):
    next(batches)
  assert_no_readers()


def resident() -> float:
  """Memory of this process now, in MB."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("kind", ["training", "test"])
def test_memory_does_not_grow_with_the_number_of_images(kind):
  """400 images of 224 x 224 are 57 MB of bytes, and 230 MB of the float32 that tests see."""
  config = StreamConfig(name="synthetic", records=400, threads=2, prefetch=16)
  source = streaming.open_source(config, "train")
  if kind == "training":
    batches = Stream(source, np.arange(400), 16, 0, config).batches(0, 25)
  else:
    batches = Crops(source, np.arange(400), config).batches(16)
  for number, _ in enumerate(batches):
    if number == 5:
      before = resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  assert resident() - before[0] < 25
  assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 - before[1] < 25
