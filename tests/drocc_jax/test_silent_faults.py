"""What used to go wrong without a word: names, offsets, glitches, copies, NumPy scalars, rates."""

import contextlib
import logging

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

import detector_jax
from drocc_jax import DROCC, DROCCOE

NAMES = ["a", "b", "c", "always"]


def make(**settings) -> DROCC:
  cheap = {"epochs": 20, "batch_size": 32, "learning_rate": 0.01, "num_steps": 2}
  return DROCC(**{"random_state": 0, **cheap, **settings})


@pytest.fixture(scope="module")
def pandas():
  return pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def frame(pandas):
  x = np.random.default_rng(0).normal(size=(160, 4)) * [1, 10, 100, 0] + [0, 50, 500, 3]
  return pandas.DataFrame(x, columns=NAMES)


@pytest.fixture(scope="module")
def fitted(frame):
  return make().fit(frame)


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
  place = tmp_path_factory.mktemp("named") / "detector"
  fitted.save(place)
  return place


def test_every_way_to_score_matches_columns_by_name(fitted, folder, frame, caplog):
  turned = frame[["c", "always", "b", "a"]].assign(more="text")
  want = -fitted.score_samples(frame)
  loaded, detector = DROCC.load(folder), detector_jax.load(folder)
  assert loaded.feature_names_in_.tolist() == NAMES
  assert detector.feature_names == tuple(NAMES)
  for score in (
    lambda x: -fitted.score_samples(x),
    lambda x: -loaded.score_samples(x),
    detector.score,
  ):
    caplog.clear()
    np.testing.assert_allclose(score(turned), want, rtol=1e-6)
    assert caplog.messages == [
      "Left out 'more' of The records: the detector was not trained on it."
    ]
    with pytest.raises(ValueError, match="lack 'b', which the detector was trained on"):
      score(frame[["a", "c", "always"]])
  np.testing.assert_allclose(detector.score(turned.to_dict("records")), want, rtol=1e-6)
  np.testing.assert_allclose(detector.score(frame.to_numpy()), want, rtol=1e-6)


def test_messages_name_columns(frame, caplog):
  with caplog.at_level(logging.WARNING):
    make().fit(frame)
  assert "Dropped 1 constant features: 'always'." in caplog.messages
  broken = frame.astype({"b": "Float64"})
  broken.loc[3, "b"] = None
  with pytest.raises(ValueError, match=r"NaN at row 3, column 'b'"):
    make().fit(broken)


def test_a_column_that_is_constant_in_training_is_looked_at(fitted, folder, frame, caplog):
  changed = frame.head(50).copy()
  changed.loc[changed.index[:12], "always"] = 4.0
  detector = detector_jax.load(folder)
  for score in (fitted.score_samples, detector.score):
    caplog.clear()
    score(changed)
    (message,) = caplog.messages
    assert "Of 50 records 12 differ" in message
    assert "'always' (always 3 in training) in 12" in message
  caplog.clear()
  detector.score(frame)
  assert not caplog.messages


def test_after_a_fit_without_names_there_are_none(frame, tmp_path):
  model = make().fit(frame).fit(frame.to_numpy())
  assert not hasattr(model, "feature_names_in_")
  model.save(tmp_path / "detector")
  assert detector_jax.load(tmp_path / "detector").feature_names is None


def test_scalars_of_numpy_do_as_pythons_do(frame, tmp_path):
  x = frame.to_numpy()[:, :3]
  search = GridSearchCV(
    make(epochs=2),
    {"radius": np.arange(1, 3)},
    cv=2,
    scoring=lambda model, X, y=None: 0.0,
    error_score="raise",
  )
  assert search.fit(x).best_params_["radius"] == 1
  settings = {
    "epochs": np.int64(2),
    "batch_size": np.int32(32),
    "random_state": np.int64(3),
    "fpr": np.float32(0.125),
    "num_steps": np.int64(2),
    "clip": np.float64(9.0),
    "members": np.int64(2),
  }
  model = make(**settings).fit(x)
  model.save(tmp_path / "detector")
  loaded = DROCC.load(tmp_path / "detector")
  for name, value in settings.items():
    assert getattr(loaded, name) == value
    assert not isinstance(getattr(loaded, name), np.generic)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "num_steps", "project_every", "members"])
def test_what_counts_something_is_a_whole_number(frame, name):
  with pytest.raises(ValueError, match=rf"^{name} must be a whole number, got 3\.0"):
    make(**{name: 3.0}).fit(frame.to_numpy())


def test_a_mask_is_heard(frame):
  x = np.ma.array(frame.to_numpy(), mask=False)
  x.mask[4, 2] = True
  with pytest.raises(ValueError, match="NaN at row 4, column 2"):
    make().fit(x)


def test_a_rate_that_cannot_be_defended_is_refused_before_training(frame, monkeypatch):
  monkeypatch.setattr("drocc_jax.recipe.build_training", lambda *_, **__: pytest.fail("it trained"))
  with pytest.raises(ValueError, match=r"fpr=0\.0005 needs 1,999 held-out records"):
    make(fpr=0.0005, calibration="split").fit(frame)
  with pytest.raises(ValueError, match=r"fpr=0\.1 needs held-out records: set calibration_size"):
    make(fpr=0.1, calibration_size=0).fit(frame)
  with pytest.raises(ValueError, match="with 95 % confidence needs 299 held-out records"):
    make(fpr=0.01, confidence=0.95).fit(frame)


def test_a_confidence_is_kept(frame, tmp_path):
  model = make(fpr=0.1, confidence=0.9).fit(frame)
  assert model.detector_.rate == "at most 10 % false alarms with 90 % confidence"
  model.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  assert (loaded.confidence, loaded.fpr) == (0.9, 0.1)
  assert loaded.threshold > make(fpr=0.1).fit(frame).detector_.threshold
  again = loaded.calibrate(frame, 0.1)
  assert again.confidence is None


def test_groups_stay_on_one_side(frame, monkeypatch):
  from detector_jax import splits

  seen, real = [], splits.divide
  monkeypatch.setattr(splits, "divide", lambda *args: seen.append(args[0]) or real(*args))
  groups = np.repeat(np.arange(16), 10)
  make(epochs=1, calibration="split").fit(frame, groups=groups)
  np.testing.assert_array_equal(seen[0], groups)
  labels = np.r_[np.ones(120), -np.ones(40)]
  settings = {"batch_size": 32, "num_steps": 1, "random_state": 0, "calibration": "split"}
  DROCCOE(epochs=1, **settings).fit(frame, labels, groups=groups)
  np.testing.assert_array_equal(seen[1], groups[:120])
  with pytest.raises(ValueError, match="groups has shape"):
    make(epochs=1).fit(frame, groups=groups[1:])


@pytest.mark.parametrize("offset", [1.7e9, 101325.0])
def test_a_large_offset_changes_no_decision(offset, tmp_path):
  rng = np.random.default_rng(0)
  x = np.c_[rng.normal(size=(200, 2)), 60 * rng.normal(size=200)]
  late = x[:50] + np.array([0, 0, 86400])
  shift = np.array([0, 0, offset])
  model = make(epochs=40).fit(x + shift)
  assert model.detector_.input_offset is not None
  assert (model.predict(late + shift) == -1).mean() > 0.9
  model.save(tmp_path / "detector")
  loaded = detector_jax.load(tmp_path / "detector")
  np.testing.assert_allclose(
    -loaded.score(late + shift), model.score_samples(late + shift), rtol=1e-6
  )


def test_one_glitch_blinds_no_column():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(300, 4))
  x[5, 0] = 1e6
  odd = rng.normal(size=(100, 4))
  odd[:, 0] = 100.0
  model = make(epochs=60).fit(x)
  assert (model.predict(odd) == -1).mean() > 0.9
  (finding,) = (f for f in model.detector_.metadata["health"] if "far from all" in f["check"])
  assert not finding["passed"]
  assert "Column 0 holds 1e+06" in finding["message"]


@pytest.mark.parametrize(("value", "change"), [(1.7e9, 1000.0), (1234567890.0, 100.0), (0.1, 1e-9)])
def test_a_small_change_of_a_large_constant_is_seen(value, change):
  rng = np.random.default_rng(0)
  x = np.c_[rng.normal(size=(80, 2)), np.full(80, value)]
  detector = make(epochs=1).fit(x).detector_
  assert not detector.unseen(x)
  assert detector.unseen(x + np.array([0, 0, change])).changed == len(x)
  assert not detector.unseen(x.astype(np.float32))


def test_what_cannot_be_scored_is_said_before_what_changed(fitted, frame, caplog):
  detector = fitted.detector_
  with pytest.raises(ValueError, match="There are no records to score"):
    detector.score(frame[:0])
  with pytest.raises(ValueError, match="Records must be numbers"):
    detector.score(frame.to_numpy().astype(str))
  with pytest.raises(ValueError, match="Records must be numbers"):
    detector.score(np.array([["a", 1, 2, 3]], object))
  assert not caplog.messages


def test_groups_of_another_length_or_of_mixed_kinds(frame):
  labels = np.r_[np.ones(120), -np.ones(40)]
  with pytest.raises(ValueError, match="groups has shape"):
    DROCCOE(epochs=1).fit(frame, labels, groups=np.zeros(120))
  mixed = np.array([f"g{i // 8}" if i % 16 < 8 else i // 8 for i in range(160)], object)
  make(epochs=1).fit(frame, groups=mixed)


@pytest.mark.parametrize(
  "settings", [{"fpr": 1e-320}, {"fpr": "x"}, {"fpr": 0.1, "confidence": "x"}]
)
def test_rates_that_are_none_are_named(frame, settings):
  with pytest.raises(ValueError, match=r"must be"):
    make(**settings).fit(frame)


def test_digits_that_float32_loses_are_said_where_nothing_is_subtracted(caplog):
  rng = np.random.default_rng(0)
  x = np.c_[rng.normal(size=(80, 2)), 1.7e9 + rng.normal(size=80)]
  with contextlib.suppress(detector_jax.HealthError):
    make(epochs=1, scaling="none").fit(x)
  assert any("Columns 2 lie so far from 0 that float32 loses" in m for m in caplog.messages)


def test_nanoseconds_since_1970_are_learned_from():
  rng = np.random.default_rng(0)
  x = np.c_[rng.normal(size=(80, 2)), 1.7e18 + 6e10 * rng.normal(size=80)]
  model = make(epochs=1).fit(x)
  assert model.detector_.input_offset is not None
  assert "constants" not in model.detector_.metadata
