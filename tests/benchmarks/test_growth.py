"""The exponents of how cost grows, and the figure of them."""

import numpy as np
import pytest

from benchmarks import growth


def test_exponent_of_a_power():
  values = np.array([1.0, 2.0, 8.0, 32.0])
  assert growth.exponent(values, 0.3 * values**1.7) == pytest.approx(1.7)
  assert growth.exponent(values, np.full(4, 5.0)) == pytest.approx(0.0, abs=1e-9)


def test_a_row_takes_the_fastest_run_and_both_exponents(monkeypatch):
  """Runs of 1, 2, 4 and 8 models take 3, 4, 8 and 16 s at best; the first, which compiles, 99."""
  clock, calls = [0.0], []

  def training(sizes):
    best, done = {1: 3.0, 2: 4.0, 4: 8.0, 8: 16.0}[sizes.models], []

    def work():
      calls.append(sizes)
      clock[0] += 99.0 if not done else best if len(done) == 2 else best + 5.0
      done.append(1)

    return work

  monkeypatch.setattr(growth, "measured_training", training)
  monkeypatch.setattr(growth.time, "perf_counter", lambda: clock[0])
  row = growth.measure("models", (1, 2, 4, 8), runs=3)
  assert row["values"] == [1, 2, 4, 8]
  assert row["seconds"] == [3.0, 4.0, 8.0, 16.0]
  assert row["exponent_of_larger_half"] == 1.0
  assert row["exponent"] == pytest.approx(0.82, abs=0.01)
  assert {(each.batch, each.features) for each in calls} == {(256, 64)}


@pytest.mark.long
def test_trainings_of_the_sizes_asked_for_run(monkeypatch):
  monkeypatch.setattr(growth, "STEPS", 2)
  monkeypatch.setattr(growth, "TAP_ROWS", 64)
  sizes = growth.Sizes(batch=4, features=3, ascent=1, models=2, taps=2)
  for make in (growth.measured_training, growth.fingerprinting):
    work = make(sizes)
    work()
    work()  # the state that it donates is its own


def test_figure_is_relative_to_the_first_point():
  row = {
    "values": [4, 8, 16],
    "seconds": [2.0, 3.0, 6.0],
    "exponent": 0.79,
    "exponent_of_larger_half": 1.0,
  }
  (axes,) = growth.figure_of({"batch": row}).axes
  line, proportional = axes.lines
  np.testing.assert_array_equal(line.get_xydata(), [[1, 1], [2, 1.5], [4, 3]])
  np.testing.assert_array_equal(proportional.get_xydata(), [[1, 1], [4, 4]])
  assert line.get_label() == "batch 4 to 16: 0.79, larger half 1.00"
  assert axes.get_xscale() == axes.get_yscale() == "log"
