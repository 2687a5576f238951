"""Why a record is flagged: moves by hand, whole columns, words, and what cannot be explained."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import Detector, HealthError, Standardizer, load, schema
from detector_jax.preprocessing import Identity
from detector_jax.typical import Typical, with_typical

WEIGHT = np.array([1.0, 2.0, 0.5])


@pytest.fixture(scope="module")
def explained(uncalibrated, records) -> Detector:
  """The toy detector, which keeps typical values, calibrated at 10 %."""
  typical = np.random.default_rng(2).normal(2.0, 3.0, size=(50, 3))
  return with_typical(uncalibrated, records).calibrate(typical, 0.1)


@pytest.fixture(scope="module")
def folder(explained, tmp_path_factory) -> Detector:
  path = tmp_path_factory.mktemp("explained") / "detector"
  explained.save(path)
  return load(path)


def score(detector: Detector, x: np.ndarray) -> np.ndarray:
  """The toy method's score ``[n]`` by hand."""
  pre = detector.arrays["preprocessing"]
  z = (x - np.asarray(pre.center)) / np.asarray(pre.scale)
  return np.sum(WEIGHT * (z - [0.1, -0.2, 0.3]) ** 2, axis=1)


def test_one_column_moves_to_where_the_threshold_is(explained, folder):
  x = np.array([[2.0, 30.0, 2.0], [2.0, 2.0, 2.0]])
  got = explained.explain(x)
  assert (got.flagged.tolist(), got.passes.tolist()) == ([True, False], [True, True])
  assert got.changed.tolist() == [[False, True, False], [False, False, False]]
  np.testing.assert_array_equal(got.moved[:, [0, 2]], x[:, [0, 2]])
  line = np.linspace(2.0, 30.0, 100_001)
  scores = score(explained, np.stack([np.full_like(line, 2.0), line, np.full_like(line, 2.0)], 1))
  nearest = line[scores <= explained.threshold].max()
  assert nearest - 0.05 < got.moved[0, 1] <= nearest
  assert score(explained, got.moved).max() <= explained.threshold
  np.testing.assert_array_equal(folder.explain(x).moved, got.moved)
  assert folder.explain(x).describe() == got.describe()


def test_of_two_columns_the_nearest_point_of_the_boundary(explained):
  x = np.array([[2.0, 20.0, -30.0]])
  got = explained.explain(x)
  assert got.changed.tolist() == [[False, True, True]]
  grid = np.stack(np.meshgrid(np.linspace(-8, 20, 701), np.linspace(-30, 12, 701)), -1)
  rows = np.insert(grid.reshape(-1, 2), 0, 2.0, axis=1)
  scale = Typical.from_detector(explained).scale
  distance = np.sqrt(np.sum(((rows - x) / scale) ** 2, axis=1))
  least = distance[score(explained, rows) <= explained.threshold].min()
  assert least - 0.05 < got.distance[0] < 1.01 * least


def test_contributions_are_exact_occlusion(explained):
  x = np.array([[9.0, 14.0, 2.0]])
  got = explained.explain(x)
  values = Typical.from_detector(explained).values
  for column in range(3):
    rows = np.repeat(x, len(values), axis=0)
    rows[:, column] = values[:, column]
    want = score(explained, x)[0] - score(explained, rows).min()
    assert got.contribution[0, column] == pytest.approx(want, rel=1e-4)
  assert got.order[0, 0] == got.contribution[0].argmax()
  apart = explained.explain(np.array([[4.0, 30.0, 2.0], [2.0, 30.0, 6.0]]))
  assert apart.order.tolist() == [[1, 0, 2], [1, 2, 0]]


@dataclasses.dataclass(frozen=True)
class Needless:
  """First column first, then the others, which alone would have done."""

  def __call__(self, variables, x):
    a, b, c = (x > 5.0).astype(jnp.float32).T
    return 3.0 * a * jnp.maximum(b, c) + 2.0 * b + 2.0 * c


def test_a_column_that_the_others_make_needless_is_put_back(records):
  plain = Detector.create(Needless(), {}, Identity(), (3,), threshold=0.5)
  detector = with_typical(plain, np.random.default_rng(0).normal(size=(100, 3)))
  got = detector.explain(np.array([[9.0, 9.0, 9.0]]))
  assert got.changed.tolist() == [[False, True, True]]
  assert got.moved[0, 0] == 9.0
  assert np.isnan(got.p_value).all()


@dataclasses.dataclass(frozen=True)
class Rare:
  """The second coordinate is anomalous."""

  def __call__(self, variables, x):
    return x[:, 1]


def test_a_category_moves_as_a_whole_and_is_told_in_words(tmp_path):
  rng = np.random.default_rng(0)
  table = {
    "colour": rng.choice(["red", "blue", "green"], 200, p=[0.6, 0.3, 0.1]).tolist(),
    "amount": np.exp(rng.normal(3.0, 1.0, 200)).tolist(),
    "at": ["2026-03-02T06:30:00", "2026-03-08T23:59:00"] * 100,
  }
  learned = schema.learn(table)
  facts = {"schema": learned.to_json(), "feature_names": learned.features}
  width = len(learned.features)
  plain = Detector.create(Rare(), {}, Identity(), (width,), threshold=0.5, metadata=facts)
  assert learned.features[1] == "colour=blue"
  detector = with_typical(plain, learned.encode(table))
  at = "2026-03-02T06:30:00"
  rows = [{"colour": c, "amount": a, "at": at} for c, a in (("blue", 9.0), ("red", 9.0))]
  blue, red = detector.explain(rows).describe()
  assert (blue, red) == ("colour blue; with colour red it would pass", "typical")
  moved = detector.explain(rows).moved[0]
  np.testing.assert_array_equal(moved[:4], [1.0, 0.0, 0.0, 0.0])
  (when,) = [group for group in detector.explain(rows).groups if group.name == "at"]
  assert when.words(learned.encode(rows)[0, list(when.places)]) == "Mon 06:30"


@dataclasses.dataclass(frozen=True)
class Busy:
  """Anomalous where more than 7.3 things came at a level of 0, and fewer at a higher one."""

  def __call__(self, variables, x):
    return x[:, 0] - variables["most"] + jnp.abs(x[:, 1])


@pytest.mark.parametrize("kind", [None, "number", "log"])
def test_counts_become_whole_numbers_with_which_the_record_passes(kind):
  rng = np.random.default_rng(0)
  table = {"count": rng.poisson(4.0, 500) % 13, "level": rng.normal(size=500)}
  x, facts = np.stack([*table.values()], axis=1).astype(np.float64), {}
  most = 7.3
  if kind is not None:
    learned = schema.learn(table, {"count": kind})
    facts = {"schema": learned.to_json(), "feature_names": learned.features}
    x = learned.encode(table)
    most = float(learned.columns[0].coordinate(np.float64(most)))
  plain = Detector.create(
    Busy(), {"most": jnp.float32(most)}, Identity(), (2,), threshold=0.2, metadata=facts
  )
  detector = with_typical(plain, x)
  odd = {"count": [31, 900], "level": [0.01, 0.0]}
  rows = np.stack([*odd.values()], axis=1) if kind is None else odd
  got = detector.explain(rows)
  assert got.passes.all()
  moved = Typical.from_detector(detector).numbers(got.moved)
  np.testing.assert_allclose(moved[:, 0], 7.0 if kind != "log" else 9.0, rtol=1e-5)
  name = "column 0" if kind is None else "count"
  told = got.describe()
  high = np.round(np.quantile(table["count"], 0.99))
  want = "7" if kind != "log" else "9"
  assert told[0] == f"{name} 31 (typical up to {high:g}); with {name} {want} it would pass"


def test_words_have_the_value_what_is_typical_and_what_would_pass():
  rng = np.random.default_rng(0)
  x = np.stack([1.7e9 + rng.normal(size=500), rng.normal(size=500)], axis=1)
  scale = Standardizer.fit(x)
  facts = {"feature_names": ["seconds", "other"]}
  plain = Detector.create(Norm(), {}, scale, (2,), threshold=9.0, metadata=facts)
  detector = with_typical(plain, x)
  got = detector.explain(np.array([[1.7e9 + 40.0, 0.0]]))
  told = str(got)
  assert told.startswith("record 0: seconds 1,700,000,040 (typical up to 1,700,000,002); with ")
  assert got.moved[0, 0] - x[:, 0].mean() == pytest.approx(3.0 * x[:, 0].std(), rel=0.05)


@dataclasses.dataclass(frozen=True)
class Norm:
  """Squared norm."""

  def __call__(self, variables, x):
    return jnp.sum(x**2, axis=1)


@dataclasses.dataclass(frozen=True)
class Overflowing:
  """Not a number beyond 100, and the same for all records below."""

  def __call__(self, variables, x):
    return jnp.where(x[:, 0] > 100.0, jnp.nan, 1.0)


def test_scores_that_are_not_finite_are_no_explanation(records):
  plain = Detector.create(Overflowing(), {}, Identity(), (3,), threshold=0.5)
  detector = with_typical(plain, records)
  (told,) = detector.explain(np.zeros((1, 3))).describe()
  assert told == "no typical value of any single column lowers its score"
  with pytest.raises(HealthError, match="score of row 1 is nan"):
    detector.explain(np.array([[0.0, 0.0, 0.0], [1e3, 0.0, 0.0]]))


def test_what_keeps_no_typical_values_is_refused_in_words(uncalibrated):
  with pytest.raises(ValueError, match=r"keeps no typical values .* an earlier release"):
    uncalibrated.explain(np.zeros((1, 3)))
  image = Detector.create(Norm(), {}, Identity(), (2, 2, 1))
  with pytest.raises(ValueError, match="or its records are too large"):
    image.explain(np.zeros((1, 2, 2, 1)))
  large = Detector.create(Norm(), {}, Identity(), (300, 300, 1))
  assert with_typical(large, np.zeros((5, 300, 300, 1))) is large


def test_damaged_typical_values_are_refused(explained):
  kept = {"values": jnp.zeros((5, 2)), "continuous": jnp.zeros(3, bool)}
  with pytest.raises(ValueError, match="damaged"):
    dataclasses.replace(explained, arrays={**explained.arrays, "typical": kept}).explain(
      np.zeros((1, 3))
    )
