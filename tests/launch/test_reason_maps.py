"""Where flagged pictures and series are unusual: drawn beside the scores, however it is chunked."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

import detector_jax
from detector_jax.preprocessing import Identity
from detector_jax.typical import with_typical
from launch import scoring
from launch.reporting.reason_maps import Drawing

SHAPES = {"picture": (12, 16, 3), "series": (40, 3)}


@dataclasses.dataclass(frozen=True)
class Worst:
  """The largest square of all places."""

  def __call__(self, variables, x):
    return jnp.max(jnp.square(x).reshape(x.shape[0], -1), axis=1)


def made(shape, **facts):
  typical = np.random.default_rng(0).uniform(-1.0, 1.0, size=(80, *shape))
  settings = {"threshold": 2.0, "batch_size": 4, "metadata": facts}
  return with_typical(
    detector_jax.Detector.create(Worst(), {}, Identity(), shape, **settings), typical
  )


@pytest.mark.parametrize("name", SHAPES)
def test_the_most_anomalous_are_drawn_beside_the_scores(name, tmp_path, capsys):
  detector = made(SHAPES[name])
  x = np.random.default_rng(1).uniform(-1.0, 1.0, size=(30, *SHAPES[name]))
  x[3:13, 2, 1] += np.arange(4.0, 14.0).reshape(-1, *[1] * (x.ndim - 3))
  np.save(tmp_path / "x.npy", x)
  drawn = set()
  for chunk_size in (4, 0):
    tally = scoring.score_input(
      detector,
      str(tmp_path / "x.npy"),
      tmp_path / "scores.csv",
      explain=True,
      chunk_size=chunk_size,
    )
    assert tally.drawn == str(tmp_path / "scores_reasons.png")
    with Image.open(tally.drawn) as picture:
      drawn.add(picture.tobytes())
  assert len(drawn) == 1
  assert np.mean(np.frombuffer(drawn.pop(), np.uint8) < 250) > 0.02  # not an empty page
  assert tally.anomalous == 10
  scoring.print_summary(detector, tally, "scores.csv", "fail")
  assert f"unusual: {tally.drawn}" in capsys.readouterr().out
  text = (tmp_path / "scores.csv").read_text()
  assert text.count("with typical values there it would pass") == 10
  scoring.score_input(detector, str(tmp_path / "x.npy"), tmp_path / "plain.csv")
  assert not (tmp_path / "plain_reasons.png").exists()


def test_what_cannot_be_drawn_is_not():
  assert Drawing.suits(made((5, 4, 1)))
  assert not Drawing.suits(made((5, 4, 2)))
  assert not Drawing.suits(made((5, 4, 1), layers=["a"]))
  drawing = Drawing(made((5, 4, 1)))
  drawing.add(["a"], np.zeros((1, 5, 4, 1)), np.zeros(1), np.zeros(1, bool))
  assert not drawing.write(None)
