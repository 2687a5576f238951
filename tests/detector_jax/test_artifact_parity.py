"""The check at save time: what was written scores as the detector does, or is not written."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from detector_jax import ArtifactError, artifact, load
from detector_jax.preprocessing import Standardizer


def positive_only(_, x):
  return jnp.log(x[:, 0])


DIFFERS = "does not reproduce the detector: scores differ by up to"


def test_an_export_that_scores_differently_is_refused(detector, tmp_path):
  detector.save(tmp_path / "detector")
  program = dataclasses.replace(detector.program, score_fn=lambda variables, x: x[:, 0])
  with pytest.raises(ArtifactError, match=DIFFERS):
    artifact.check_parity(
      dataclasses.replace(detector, program=program), load(tmp_path / "detector")
    )
  slightly = load(tmp_path / "detector")
  slightly.arrays["variables/layer/weight"] *= 1 + 1e-5
  with pytest.raises(ArtifactError, match=DIFFERS):
    artifact.check_parity(detector, slightly)
  artifact.check_parity(detector, load(tmp_path / "detector"))


def numbered(counter):
  """A score that changes whenever it is traced, which no export can reproduce."""
  return lambda variables, x: x[:, 0] + next(counter)


def test_a_score_that_cannot_be_reproduced_leaves_nothing_behind(make_detector, tmp_path):
  with pytest.raises(ArtifactError, match=DIFFERS):
    make_detector(numbered(itertools.count())).save(tmp_path / "detector")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 7])
def test_parity_is_checked_for_each_batch_size(make_detector, detector, size):
  def differs(variables, x):
    return detector.program.score_fn(variables, x) + (x.shape[0] == size)

  with pytest.raises(ArtifactError, match=DIFFERS):
    artifact.check_parity(detector, make_detector(differs))


def test_scores_that_are_no_number_on_the_probe_do_not_stop_a_save(make_detector, tmp_path):
  made = make_detector(positive_only)
  assert not np.isfinite(artifact.scores_of(made, artifact.probe(made))).all()
  made.save(tmp_path / "detector")
  other = make_detector(lambda variables, x: positive_only(variables, -x))
  with pytest.raises(ArtifactError, match=DIFFERS):
    artifact.check_parity(made, other)


def test_the_probe_is_made_of_records_like_those_of_training(detector, tmp_path):
  detector.save(tmp_path / "detector")
  shifted = np.random.default_rng(0).normal(1000.0, [1.0, 5.0, 0.0], size=(50, 3))
  standardizer = Standardizer.fit(shifted)  # drops the constant column
  made = dataclasses.replace(detector, arrays={**detector.arrays, "preprocessing": standardizer})
  z = np.asarray(standardizer(artifact.probe(made)))
  assert z.shape == (7, 2)
  assert 0.5 < np.abs(z).mean() < 1.5
  assert np.abs(z).max() < 4.0
  np.testing.assert_array_equal(
    artifact.probe(detector), artifact.probe(load(tmp_path / "detector"))
  )
  ranged = artifact.probe(dataclasses.replace(detector, input_range=(3.0, 5.0)))
  assert ((ranged >= 3.0) & (ranged <= 5.0)).all()
