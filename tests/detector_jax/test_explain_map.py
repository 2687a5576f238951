"""Where pictures and series are unusual: cells by hand, the move, and the map's shape and sums."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import Detector, card, load
from detector_jax.explain import LIKELY
from detector_jax.preprocessing import Identity
from detector_jax.typical import cells_of, with_typical

SHAPES = {"picture": (12, 16, 3), "series": (40, 3)}


@dataclasses.dataclass(frozen=True)
class Worst:
  """The mean of squares beyond 2 of all places."""

  def __call__(self, variables, x):
    far = jnp.maximum(jnp.abs(x) - 2.0, 0.0) ** 2
    return jnp.mean(far.reshape(x.shape[0], -1), axis=1)


def made(shape) -> Detector:
  typical = np.random.default_rng(0).uniform(-1.0, 1.0, size=(80, *shape))
  detector = Detector.create(Worst(), {}, Identity(), shape, threshold=0.01, batch_size=16)
  return with_typical(detector, typical)


def odd(shape):
  """Two records: one with a burst in one cell, and one that is typical."""
  x = np.random.default_rng(1).uniform(-1.0, 1.0, size=(2, *shape))
  place = (0, slice(4, 6), slice(8, 10)) if len(shape) == 3 else (0, slice(10, 12), 1)
  x[place] = 6.0
  burst = np.zeros(x.shape, bool)
  burst[place] = True
  return x, burst


@pytest.mark.parametrize("name", SHAPES)
def test_the_map_is_where_the_burst_is(name, tmp_path):
  detector, (x, burst) = made(SHAPES[name]), odd(SHAPES[name])
  got = detector.explain(x)
  assert got.map.shape == got.moved.shape == x.shape
  assert (got.flagged.tolist(), got.passes.tolist()) == ([True, False], [True, True])
  assert got.map[burst].sum() > 0.8 * got.map[0].sum()
  np.testing.assert_allclose(got.map[0].sum(), np.maximum(got.contribution[0], 0).sum(), rtol=1e-4)
  np.testing.assert_array_equal(got.map[1], 0.0)
  np.testing.assert_array_equal(got.moved[1], np.float32(x[1]))
  assert (np.abs(got.moved - x) > 0.01)[burst].all()
  assert got.changed[0].sum() == 1
  detector.save(tmp_path / "detector")
  again = load(tmp_path / "detector").explain(x)
  np.testing.assert_allclose(again.map, got.map, rtol=1e-4, atol=1e-6)
  assert again.describe() == got.describe()


def test_two_bursts_are_two_cells_although_few_are_tried_again():
  detector, (x, _) = made(SHAPES["picture"]), odd(SHAPES["picture"])
  x[0, 0:1, 2:4] = 6.0
  got = detector.explain(x)
  assert len(got.cells) > LIKELY
  assert (got.changed[0].sum(), got.passes[0]) == (2, True)


def test_a_card_of_pictures_has_no_columns():
  assert "Not known. Its records are no rows of columns." in card.markdown(made((5, 4, 1)), {})


def test_places_are_told_in_words():
  detector, (x, _) = made(SHAPES["series"]), odd(SHAPES["series"])
  assert detector.explain(x).describe() == [
    "steps 10 to 11 of channel 1: with typical values there it would pass",
    "typical",
  ]
  picture, (x, _) = made(SHAPES["picture"]), odd(SHAPES["picture"])
  said = "record 0: rows 4 to 5, columns 8 to 9: with typical values there it would pass"
  assert str(picture.explain(x)).splitlines()[0] == said


@pytest.mark.parametrize("shape", [(7, 5, 1), (28, 28, 1), (3, 40), (100, 2), (1, 1)])
def test_cells_are_all_places_once(shape):
  places = [place for cell in cells_of(shape) for place in cell.places]
  assert sorted(places) == list(range(int(np.prod(shape))))
  assert len({cell.name for cell in cells_of(shape)}) == len(cells_of(shape)) <= 256
