"""The model card: what single columns can do, by hand, and what a reader is told."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import Detector, card, schema
from detector_jax import __main__ as main
from detector_jax.preprocessing import Identity
from detector_jax.typical import Typical, with_typical


@pytest.fixture(scope="module")
def kept(detector, records):
  """The toy detector with names and typical values; its third column hardly counts."""
  weight = np.array([1.0, 2.0, 1e-4], np.float32)
  variables = {**detector.arrays["variables"], "layer": {"weight": weight}}
  changed = dataclasses.replace(detector, arrays={**detector.arrays, "variables": variables})
  return with_typical(changed, records).with_metadata(feature_names=["a", "b|c", "blind"])


def test_a_column_alarms_where_its_score_crosses_the_threshold(kept, records):
  first, second, third = card.reach(kept)
  assert (first.name, second.name, third.name) == ("a", "b|c", "blind")
  assert third.alarms == ()
  middle = np.median(records, axis=0)
  line = np.linspace(-100.0, 100.0, 20_001)
  rows = np.tile(middle, (len(line), 1))
  rows[:, 0] = line
  typical = line[kept.predict(rows) == 0]
  below, above = (float(alarm.split()[1]) for alarm in first.alarms)
  assert [alarm.split()[0] for alarm in first.alarms] == ["below", "above"]
  deviation = np.std(records[:, 0])
  # The grid of distances has steps of 9 %.
  assert typical.min() - 0.3 * deviation < below <= typical.min()
  assert typical.max() <= above < typical.max() + 0.3 * deviation


def rare_or_large(variables, z):
  """Of the columns kind (a, b, rare, other) and size."""
  del variables
  return 2.0 * z[:, 2] + jnp.abs(z[:, 4] - 3.0) / 10.0


def test_categories_that_alarm_are_named():
  rows = [{"kind": "bba"[i % 3], "size": i % 31 / 5.0} for i in range(62)]
  learned = schema.learn([*rows, {"kind": "rare", "size": 3.0}])
  x = learned.encode(rows)
  assert learned.features[-1] == "size"
  assert x.shape[1] == 5
  plain = Detector.create(rare_or_large, {}, Identity(), (5,), threshold=1.0)
  facts = {"schema": learned.to_json(), "feature_names": list(learned.features)}
  encoded = np.concatenate([x, learned.encode([{"kind": "rare", "size": 3.0}])])
  kept = with_typical(plain.with_metadata(**facts), encoded)
  first = int(np.argmax(Typical.from_detector(kept).values[0, :4]))
  assert learned.columns[0].categories[first] == "b"
  kinds, size = card.reach(kept)
  assert (kinds.name, kinds.alarms) == ("kind", ("rare",))
  assert [alarm.split()[0] for alarm in size.alarms] == ["below", "above"]
  assert 13.0 < float(size.alarms[1].split()[1]) < 14.5


def test_the_card_has_every_part(kept, tmp_path, capsys):
  finding = {"check": "search moved", "value": 0.5, "passed": False, "message": "It did not."}
  kept.with_metadata(health=[finding], summary="A toy.").save(tmp_path / "detector")
  assert main.main(["card", str(tmp_path / "detector")]) == 0
  said = capsys.readouterr().out
  assert said.startswith("# Model card: a detector by toy\n\nA toy.\n")
  assert "| rate | at most 10 % false alarms" in said
  assert "| search moved | 0.5, WARNING: It did not. |" in said
  assert "| b&#124;c | below " in said
  assert "| blind | none by itself |" in said
  assert "rests on 50 held-out records" in said
  kept.with_metadata(cross_conformal=True).save(tmp_path / "detector")
  assert main.main(["card", str(tmp_path / "detector")]) == 0
  said = capsys.readouterr().out
  assert "calibrated on | 50 cross-validated records" in said
  assert "rests on 50 cross-validated records" in said


def test_a_detector_without_typical_values_has_a_card_that_says_so(detector, tmp_path, capsys):
  detector.save(tmp_path / "detector")
  assert main.main(["card", str(tmp_path / "detector")]) == 0
  assert "Not known. This detector keeps no typical values" in capsys.readouterr().out
