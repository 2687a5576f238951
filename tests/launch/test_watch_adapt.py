"""Watching with a threshold that follows: verdicts, alarms given back, and going on."""

import numpy as np
import pytest

from detector_jax.adaptation import BLOCK, LEARN_FROM, Adaptation
from launch import watching
from tests.helpers import linear_detector
from tests.launch.watched import lines_of, told


@pytest.fixture(scope="module")
def detector():
  return linear_detector()


@pytest.fixture
def records(rng):
  return rng.normal(size=(60, 2))


@pytest.mark.parametrize("adapt", LEARN_FROM)
def test_the_threshold_follows_and_the_monitor_sees_what_it_would_see(detector, rng, adapt):
  lines = lines_of(rng.normal(size=(130, 2)) + np.linspace(0.0, 2.0, 130)[:, None])
  plain, following = watching.Watcher(detector), watching.Watcher(detector, adapt=adapt)
  want, _ = told(plain, lines)
  got, tally = told(following, lines)
  scores = np.array([line["score"] for line in got])
  rules = Adaptation(detector.calibration.scores, 0.1, adapt)
  _, reading = rules.update(rules.init(), scores)
  assert [line["threshold"] for line in got] == reading.threshold.tolist()
  assert [line["decision"] for line in got] == reading.flagged.tolist()
  assert [line["p_value"] for line in got] == reading.p_value.tolist()
  assert tally.anomalous == reading.flagged.sum()
  for name in ("score", "log10_martingale", "alarm"):
    assert [line[name] for line in got] == [line[name] for line in want], name
  for name, value in plain.state._asdict().items():
    np.testing.assert_array_equal(getattr(following.state, name), value, err_msg=name)
  first = slice(None, BLOCK)
  assert [line["decision"] for line in got[first]] == [line["decision"] for line in want[first]]
  assert got[0]["threshold"] == detector.threshold != got[-1]["threshold"]
  assert {"threshold"} == got[0].keys() - want[0].keys()


@pytest.mark.parametrize("adapt", LEARN_FROM)
def test_an_adapted_stream_goes_on_where_it_was_left(detector, rng, tmp_path, adapt):
  lines = lines_of(rng.normal(size=(130, 2)) + np.linspace(0.0, 2.0, 130)[:, None])
  if adapt == "judged":
    lines.insert(60, '{"typical": [4, 4]}')
  whole, _ = told(watching.Watcher(detector, adapt=adapt), lines)
  path, parts = tmp_path / "state.json", []
  for part in (lines[:70], lines[70:75], lines[75:]):
    parts += told(watching.Watcher(detector, adapt=adapt, state=path), part)[0]
  assert [{**line, "line": 0} for line in parts] == [{**line, "line": 0} for line in whole]
  assert len(whole) == 130
  other = LEARN_FROM[LEARN_FROM.index(adapt) - 1]
  with pytest.raises(ValueError, match=f"state.json: .* has learn_from '{adapt}', not '{other}'"):
    watching.Watcher(detector, adapt=other, state=path)
  with pytest.raises(ValueError, match=r"has fpr 0\.1, not 0\.2"):
    watching.Watcher(detector, adapt=adapt, fpr=0.2, state=path)
  with pytest.raises(ValueError, match="was kept with --adapt; do the same, or name another file"):
    watching.Watcher(detector, state=path)
  told(watching.Watcher(detector, state=tmp_path / "plain"), ["[0, 0]"])
  with pytest.raises(ValueError, match="was kept without --adapt; do the same"):
    watching.Watcher(detector, adapt=adapt, state=tmp_path / "plain")


def test_a_false_alarm_that_is_given_back_is_learned_from(detector, records):
  watcher = watching.Watcher(detector, adapt="judged")
  before = watcher.state
  lines = ["[4, 4]", '{"typical": [4, 4]}', '{"typical": {"b": 5, "a": 5}}']
  got, tally = told(watcher, [*lines, *lines_of(records)], "skip")
  assert [line["line"] for line in got] == [1, *range(4, 64)]
  assert (tally.records, tally.bad) == (61, 0)
  assert watcher.state.seen == before.seen + 61
  assert {12.0, 15.0} <= set(watcher.follower.state.window.tolist())
  silent = watching.Watcher(detector, adapt="judged")
  told(silent, [lines[0], *lines_of(records)])
  assert watcher.follower.state.level < silent.follower.state.level
  with pytest.raises(ValueError, match=r"Line 1 has shape \[1\] where"):
    told(watching.Watcher(detector, adapt="judged"), ['{"typical": [4]}'])
  for adapt in ("unflagged", "all", None):
    with pytest.raises(ValueError, match=r"Line 1 (is an object|lacks)"):
      told(watching.Watcher(detector, adapt=adapt), ['{"typical": [4, 4]}'])


def test_an_infinite_threshold_is_null(detector):
  got, _ = told(watching.Watcher(detector, adapt="all"), ["[9, 9]"] * (BLOCK + 1))
  assert [line["threshold"] is None for line in got] == [False] * BLOCK + [True]
  assert got[-1]["decision"] == 0
  bad, _ = told(watching.Watcher(detector, adapt="all"), ["x"], "nan")
  assert bad[0]["threshold"] is None


def test_a_rate_that_cannot_follow_a_stream_is_refused(detector, rng):
  sure = detector.calibrate(rng.normal(size=(99, 2)), 0.1, confidence=0.9)
  with pytest.raises(ValueError, match="stream cannot state at most 10 % false alarms with 90 %"):
    watching.Watcher(sure, adapt="all")
  assert watching.Watcher(sure, adapt="all", fpr=0.2).follower.rules.fpr == 0.2


def test_where_the_spread_cannot_be_followed_it_is_said(detector, caplog):
  uniform = detector.calibrate_scores(np.linspace(0.0, 1.0, 500), 0.1)
  watching.Watcher(uniform, adapt="unflagged")
  assert "the threshold follows their median alone" in caplog.text
