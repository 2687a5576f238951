"""The released projection, as it is timed: hand-made rows and draws."""

import functools

import jax
import numpy as np
import pytest

from benchmarks import speed_projection
from drocc_jax import projections

AT_ONCE = pytest.mark.parametrize("at_once", [1, 4])


class Draws:
  """Draws the same four numbers for every row."""

  def __init__(self, *values: float):
    self.values = values

  def random(self, shape, dtype):
    assert shape == (4, 1)
    return np.array(self.values, dtype)[:, None]


@pytest.fixture(autouse=True)
def unit_shell(monkeypatch):
  """The shell from 1 to 2, and four values of tau."""
  for name, value in (("RADIUS", 1.0), ("GAMMA", 2.0), ("POINTS", 4)):
    monkeypatch.setattr(speed_projection, name, value)


def released(rows, weights, draws, at_once):
  arrays = (np.array(values, np.float32) for values in (rows, weights))
  return speed_projection.released(*arrays, draws, at_once)


@AT_ONCE
@pytest.mark.parametrize(
  "order", [(0.2, 0.6, 0.5, 0.9), (0.5, 0.2, 0.9, 0.6), (0.9, 0.6, 0.5, 0.2)]
)
def test_of_the_feasible_ones_it_keeps_the_least_moved(order, at_once):
  """At tau = -draw the first row has length 0.5 / (1 - draw): 1 is reached from 0.5 on."""
  got = released([[0.5, 0.0]], [[1.0, 1.0]], Draws(*order), at_once)
  np.testing.assert_allclose(got, [[1.0, 0.0]], rtol=1e-6)
  # Too far, with 1/4 as the share of the outer radius: at nu = draw / 3 its length is
  # 8 draw / (draw + 3), always at most 2, and the largest draw moves it least.
  got = released([[0.0, -8.0]], [[1.0, 1.0]], Draws(*order), at_once)
  np.testing.assert_allclose(got, [[0.0, -8.0 * 0.9 / 3.9]], rtol=1e-6)


@AT_ONCE
def test_weights_decide_which_coordinate_moves(at_once):
  got = released([[0.2, 0.3]], [[4.0, 0.0]], Draws(0.1, 0.7, 0.8, 0.2), at_once)
  np.testing.assert_allclose(got, [[0.2 / 0.3, 0.3]], rtol=1e-5)  # tau = -0.7 / 4


@AT_ONCE
def test_without_a_feasible_one_it_keeps_the_last_and_is_off_the_shell(at_once):
  got = released([[0.5, 0.0]], [[1.0, 1.0]], Draws(0.4, 0.1, 0.3, 0.2), at_once)
  np.testing.assert_allclose(got, [[0.5 / 0.8, 0.0]], rtol=1e-6)
  assert speed_projection.off(got, np.ones((1, 2), np.float32)) == 1


@AT_ONCE
def test_rows_between_the_radii_stay_to_the_bit(at_once):
  rows = np.array([[1.0, 0.0], [1.2, -0.7], [0.0, 2.0]], np.float32)
  got = released(rows, np.ones_like(rows), Draws(0.9, 0.9, 0.9, 0.9), at_once)
  np.testing.assert_array_equal(got, rows)


def test_rows_off_the_shell_are_counted():
  rows = np.array([[1.0, 0], [2, 0], [0.9995, 0], [2.0005, 0], [0.99995, 0], [1, 9]], np.float32)
  weights = np.array([[1.0, 0.0]] * 6, np.float32)
  assert speed_projection.off(rows, weights) == 2
  assert speed_projection.off(2.0 * rows, weights / 4.0) == 2


def test_way_is_the_mean_distance_moved():
  before = np.array([[0.0, 0.0], [1.0, 1.0]])
  moved = np.array([[3.0, 4.0], [1.0, 2.0]])
  assert speed_projection.way(moved, before) == 3.0


def test_cases_lie_on_both_sides_of_the_shell(monkeypatch):
  monkeypatch.undo()
  delta, sigma = speed_projection.cases(0)
  assert delta.shape == sigma.shape == (256, 784)
  np.testing.assert_allclose(sigma.mean(axis=1), np.ones(256), rtol=1e-5)
  length = np.sqrt(np.sum(sigma * delta**2, axis=1))
  near, inside = length < 16.0, (length >= 16.0) & (length <= 32.0)
  assert [near.sum(), inside.sum(), (~near & ~inside).sum()] == [86, 85, 85]
  assert speed_projection.bytes_moved() == 12 * 256 * 784


def test_what_is_measured_says_who_is_off_the_shell(monkeypatch):
  """With one value of tau to try, the released method misses rows; ours misses none."""
  monkeypatch.undo()
  for name, value in (("EXAMPLES", 12), ("COORDINATES", 64), ("POINTS", 1)):
    monkeypatch.setattr(speed_projection, name, value)
  monkeypatch.setattr(speed_projection, "RADIUS", 4.0)
  monkeypatch.setattr(speed_projection, "PEERS", {"each": 1, "at once": 1})
  measured, facts = speed_projection.measure(1)
  assert [record.peer for record in measured] == ["each", "at once"]
  assert all(record.case == "projection" for record in measured)
  assert facts["off_the_shell"]["ours"] == 0
  assert facts["off_the_shell"]["released"] > 0
  delta, sigma = speed_projection.cases(0)
  project = functools.partial(projections.project_weighted_shell, radius=4.0, gamma=2.0)
  ours = np.asarray(jax.jit(jax.vmap(project))(delta, sigma))
  assert facts["mean_movement"]["ours"] == pytest.approx(
    speed_projection.way(ours, delta), abs=2e-3
  )
