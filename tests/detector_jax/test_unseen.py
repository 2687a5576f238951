"""What training never had is counted, by hand, and told once."""

import dataclasses

import numpy as np
import pytest

from detector_jax import Detector, schema
from detector_jax.preprocessing import Identity
from detector_jax.unseen import Unseen

MANY = [f"c{i}" for i in range(25) for _ in range(4)]
TRAINING = {"currency": ["EUR"] * 100, "code": MANY, "x": np.arange(100.0) ** 2, "y": [7.0] * 100}


@dataclasses.dataclass(frozen=True)
class First:
  """The first coordinate is anomalous."""

  def __call__(self, variables, x):
    return x[:, 0]


@pytest.fixture(scope="module")
def detector() -> Detector:
  learned = schema.learn(TRAINING)
  x = learned.encode(TRAINING)
  constant = [[i, x[0, i], 0.0] for i in np.flatnonzero(np.ptp(x, axis=0) == 0.0).tolist()]
  facts = {"schema": learned.to_json(), "feature_names": learned.features, "constants": constant}
  return Detector.create(First(), {}, Identity(), x.shape[1:], metadata=facts)


def table(**changes):
  return {name: list(values[:4]) for name, values in TRAINING.items()} | changes


def test_unknown_categories_and_changed_constants_are_counted_by_column(detector, caplog):
  odd = table(currency=["EUR", "USD", "GBP", "EUR"], code=["c0", "new", "c24", "c24"])
  found = detector.unseen(odd | {"y": [7.0, 7.0, 8.0, 7.0]})
  assert (found.records, found.strange, found.changed) == (4, 2, 1)
  always = "'currency' (always 'EUR' in training, so that no score shows it)"
  assert dict(found.strangers) == {always: 2, "'code'": 1}
  assert dict(found.changes) == {"'y' (always 7 in training)": 1}
  detector.score(odd)
  assert caplog.messages == [
    f"Of 4 records 2 have a category that training did not have: {always} in 2, 'code' in 1."
  ]


def test_what_training_had_is_not_told(detector, caplog):
  found = detector.unseen(table(code=["c0", "c8", "c9", "c3"]))
  assert (found.records, bool(found)) == (4, False)
  assert all(finding.passed for finding in found.findings())
  detector.score(table())
  assert not caplog.messages


def test_counts_of_batches_add_up(detector):
  parts = [detector.unseen(table(currency=[c] * 4)) for c in ("EUR", "USD", "CHF")]
  total = sum(parts, Unseen())
  assert (total.records, total.strange, list(total.strangers.values())) == (12, 8, [8])


def test_a_rare_category_is_another_thing_than_an_unknown_one(detector):
  learned = detector.schema
  (code,) = (places for column, places in learned.groups if column.name == "code")
  x = learned.encode(table(code=["c0", "c9", "new", None]), strict=False)[:, code]
  assert x.sum(axis=1)[:3].tolist() == [1.0, 1.0, 0.0]
  assert x[1, -1] == 1.0
  assert np.isnan(x[3]).all()
  again = schema.Schema.from_json(learned.to_json())
  assert again == learned
  (column,) = (column for column in again.columns if column.name == "code")
  assert set(column.rare) == set(MANY) - set(column.categories)
