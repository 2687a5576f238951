"""Few records: how realised rates are measured, and what the tables hold."""

import functools

import jax
import numpy as np
import pytest

from benchmarks import adbench, small_sets
from benchmarks.ledger import Ledger
from detector_jax import splits
from drocc_jax import DROCC, networks
from tests.helpers import quiet

NETWORK = networks.MLP((8,), squares=True)


def tiny(epochs=2, **settings):
  return DROCC(network=NETWORK, epochs=epochs, batch_size=8, **settings)


def test_counted_p_values_compare_each_network_with_its_own_fold():
  x, fresh = small_sets.drawn_from("normal", 20, 0)
  model = tiny(random_state=3).fit(x)
  arrays = model.detector_.arrays
  folds = splits.folds(x, 5, np.random.RandomState(3).randint(2**31 - 1))

  def score(record, k):
    params = jax.tree.map(lambda leaf: leaf[k], arrays["variables"]["params"])
    return -NETWORK.apply({"params": params}, arrays["preprocessing"].transform(record[None]))[0]

  above = [
    sum(score(own, k) >= score(record, k) for own, k in zip(x, folds, strict=True))
    for record in fresh[:3]
  ]
  found = small_sets.counted(model, x, fresh[:3], 3)
  np.testing.assert_allclose(found, (1 + np.array(above, float)) / 21)
  assert len(set(found)) > 1


def test_sources_give_other_records_to_train_and_to_test():
  x, fresh = small_sets.drawn_from("heavy tails", 50, 1)
  assert (x.shape, fresh.shape) == ((50, 8), (1000, 8))
  assert (x != small_sets.drawn_from("heavy tails", 50, 2)[0]).all()
  assert np.abs(fresh).max() > 3 * np.abs(small_sets.drawn_from("normal", 50, 1)[1]).max()


def test_the_rates_of_all_sources_are_joined(monkeypatch):
  rates = iter(range(8))

  def alarms(source, size, seed):
    rate = next(rates) / 100
    return {m: dict.fromkeys(small_sets.SHOWN.values(), rate) for m in small_sets.ALARMS}

  monkeypatch.setattr(small_sets, "_alarms", alarms)
  assert small_sets.count_alarms(1) == 8
  records, drawn = small_sets.table_alarms(1, quiet, Ledger())
  means = {(r.row, r.method): r.mean for r in records}
  assert means["all, 50 records", "DROCC, cross"] == 1.5
  assert means["pendigits, 100 records", "DROCC, split"] == 7.0
  assert sorted(drawn) == ["small-sets-alarms-10", "small-sets-alarms-5"]


def test_the_forms_are_fitted_on_the_same_records(monkeypatch, tmp_path):
  (tmp_path / "adbench").mkdir()
  rng = np.random.default_rng(0)
  x = np.r_[rng.normal(size=(40, 3)), rng.normal(9.0, 1.0, size=(5, 3))]
  np.savez(tmp_path / "adbench" / "tiny.npz", X=x, y=np.repeat([0, 1], [40, 5]))
  monkeypatch.setenv("OOD_DATA_DIR", str(tmp_path))
  monkeypatch.setattr(small_sets, "SETS", ("tiny",))
  monkeypatch.setattr(small_sets, "DROCC", functools.partial(tiny, epochs=200))
  records, _ = small_sets.table(1, quiet, Ledger())
  found = {(r.row, r.method, r.metric): r.mean for r in records}
  assert found["tiny", adbench.NEIGHBOURS, "auroc"] == pytest.approx(100.0)
  assert {key[1] for key in found} == {*small_sets.FORMS, adbench.NEIGHBOURS}
