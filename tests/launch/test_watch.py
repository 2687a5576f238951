"""Watching a stream: what is said of each record, bad lines, resuming, and ending cleanly."""

import json
import pathlib
import select
import signal

import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import pytest

import detector_jax
from detector_jax.monitor import Monitor
from detector_jax.preprocessing import Identity
from launch import watching, watching_steps
from launch.reporting import drift
from tests.helpers import linear_detector, started, weighted_sum
from tests.launch.watched import lines_of, told

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def detector():
  return linear_detector()


@pytest.fixture
def records(rng):
  return rng.normal(size=(60, 2))


def test_every_record_has_its_score_p_value_decision_and_alarm(detector, records):
  records[40:] += 3.0
  lines = [line.encode() for line in lines_of(records)]
  lines[5] = json.dumps({"b": records[5, 1], "more": "x", "a": records[5, 0]})
  got, tally = told(watching.Watcher(detector), lines)
  scores = detector.score(records)
  assert [line["line"] for line in got] == list(range(1, 61))
  np.testing.assert_allclose([line["score"] for line in got], scores, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal([line["p_value"] for line in got], detector.p_value(records))
  np.testing.assert_array_equal([line["decision"] for line in got], detector.predict(records))
  monitor = Monitor(watching.FALSE_ALARM_RATE)
  exact = np.array([line["score"] for line in got])
  _, reading = monitor.update(monitor.init(detector.calibration.scores), exact)
  assert [line["log10_martingale"] for line in got] == reading.log10_martingale.tolist()
  assert [line["alarm"] for line in got] == reading.alarm.tolist()
  assert (tally.records, tally.bad) == (60, 0)
  assert tally.anomalous == detector.predict(records).sum()
  assert tally.alarm == int(reading.alarm.argmax()) + 1
  assert 41 < tally.alarm < 60


def test_other_rates_are_taken(detector, records):
  lines = lines_of(records)
  got, _ = told(watching.Watcher(detector, fpr=0.5, false_alarm_rate=0.9), lines)
  half = detector.calibrate(np.random.default_rng(0).normal(size=(50, 2)), 0.5)
  np.testing.assert_array_equal([line["decision"] for line in got], half.predict(records))
  assert sum(line["decision"] for line in got) > 2 * detector.predict(records).sum()
  highest = np.maximum.accumulate([line["log10_martingale"] for line in got])
  assert [line["alarm"] for line in got] == (highest >= -np.log10(0.9)).tolist()
  with pytest.raises(ValueError, match=r"false_alarm_rate must be in \(0, 1\), got 0.0"):
    watching.Watcher(detector, false_alarm_rate=0.0)
  with pytest.raises(ValueError, match="needs at least 9999 different calibration records, got 50"):
    watching.Watcher(detector, fpr=0.0001)


BAD = {
  "{": "is not JSON",
  "\udcff": "is not JSON",
  "[1]": r"has shape \[1\] where the detector takes \[2\]",
  "3": r"has shape \[\] where the detector takes \[2\]",
  "[[1, 2], [3]]": "has lists of different lengths",
  '["1", "2"]': "holds something that is no number",
  "[1, null]": "holds something that is no number",
  "[1, NaN]": "holds NaN, infinity or too large a number",
  "[1, 1e39]": "holds NaN, infinity or too large a number",
  '{"a": 1}': "lacks 'b'",
  "[1, 9e9]": "cannot be scored: Records range from 1 to 9e",
}


@pytest.fixture(scope="module")
def bounded():
  return linear_detector(input_range=(-5.0, 5.0))


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named(bounded, line):
  lines = ["[1, 2]\n", "\n", line.encode(errors="surrogateescape"), "[3, 4]"]
  with pytest.raises(ValueError, match=f"Line 3 {BAD[line]}") as caught:
    told(watching.Watcher(bounded), lines)
  assert str(caught.value).endswith("; repair it, or give --on_bad_row=skip or --on_bad_row=nan.")
  skipped, tally = told(watching.Watcher(bounded), lines, "skip")
  assert [each["line"] for each in skipped] == [1, 4]
  assert (tally.records, tally.bad) == (2, 1)
  assert tally.first_bad.startswith("line 3 ")
  kept, _ = told(watching.Watcher(bounded), lines, "nan")
  assert [each["line"] for each in kept] == [1, 3, 4]
  empty = {"line": 3, "score": None, "p_value": None, "decision": None, "alarm": False}
  assert kept[1] == {**empty, "log10_martingale": pytest.approx(kept[0]["log10_martingale"])}
  assert [kept[0], kept[2]] == skipped


@pytest.mark.slow
def test_a_stream_goes_on_where_it_was_left(detector, records, tmp_path):
  records[30:] += 4.0
  lines, path = lines_of(records), tmp_path / "new" / "state.json"
  whole, tally = told(watching.Watcher(detector, false_alarm_rate=0.02), lines)
  assert tally.alarm > 31
  first, _ = told(watching.Watcher(detector, false_alarm_rate=0.02, state=path), lines[:10])
  with pytest.raises(ValueError, match="Line 11 is not JSON"):
    told(watching.Watcher(detector, state=path), [*lines[10:20], "x"])
  third, tally = told(watching.Watcher(detector, state=path), lines[20:])
  fourth, again = told(watching.Watcher(detector, state=path), ["[0, 0]"])
  names = {entry.name for entry in path.parent.iterdir()}
  assert names == {"state.json", ".state.json.lock"}
  for part, start in ((first, 0), (third, 20)):
    for line, other in zip(part, whole[start:], strict=False):
      assert {**line, "line": 0} == {**other, "line": 0}
  assert len(third) == 40
  assert tally.alarm is not None
  assert tally.alarm > 11
  assert fourth[0]["alarm"]
  assert again.alarm == 0


def test_a_state_of_something_else_is_refused(detector, tmp_path):
  path = tmp_path / "state.json"
  told(watching.Watcher(detector, state=path), ["[0, 0]"])
  content = path.read_text()
  with pytest.raises(ValueError, match="is of another detector or calibration; name another file"):
    watching.Watcher(linear_detector(seed=1), state=path)
  with pytest.raises(ValueError, match=r"has a false-alarm rate of 0.01, not 0.5; leave the flag"):
    watching.Watcher(detector, false_alarm_rate=0.5, state=path)
  for text, message in (
    ("{", "is no saved state of launch.watch"),
    ("[]", "is no saved state of launch.watch"),
    (content.replace('"version": 1', '"version": 9'), "has version 9; this release reads 1"),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      watching.Watcher(detector, state=path)
  with pytest.raises(OSError, match=rf"^The state cannot be read from {tmp_path}: Is a directory"):
    watching.Watcher(detector, state=tmp_path)


def test_an_uncalibrated_detector_is_refused():
  detector = detector_jax.Detector.create(weighted_sum, jnp.asarray([1.0, 2.0]), Identity(), (2,))
  with pytest.raises(ValueError, match="There are no calibration scores to compare a stream with"):
    watching.Watcher(detector)


def test_names_that_nobody_knows_ask_for_a_list(detector):
  bare = detector_jax.Detector.create(weighted_sum, jnp.asarray([1.0, 2.0]), Identity(), (2,))
  bare = bare.calibrate(np.random.default_rng(0).normal(size=(50, 2)), 0.1)
  with pytest.raises(ValueError, match="Line 1 is an object, and the detector knows no feature"):
    told(watching.Watcher(bare), ['{"a": 1, "b": 2}'])


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_interrupted_it_saves_what_it_saw(detector, tmp_path, error):
  path, written = tmp_path / "state.json", []

  def write(text):
    if len(written) == 3:
      raise error
    written.append(text)

  watcher = watching.Watcher(detector, state=path)
  assert watching.watch(watcher, ["[0, 0]"] * 9, write).records == 4
  assert watching.Watcher(detector, state=path).state.seen == 4


def test_the_state_is_saved_now_and_then(detector, tmp_path, monkeypatch):
  monkeypatch.setattr(watching, "SAVE_EVERY", 4)
  path, seen = tmp_path / "state.json", []

  def write(text):
    seen.append(json.loads(path.read_text())["monitor"]["state"]["seen"] if path.exists() else 0)

  watching.watch(watching.Watcher(detector, state=path), ["[0, 0]"] * 9, write)
  assert seen == [0, 0, 0, 4, 4, 4, 4, 8, 8]


def test_ctrl_c_as_the_stream_ends_loses_nothing(detector, tmp_path, monkeypatch):
  path, save, calls = tmp_path / "state.json", watching.Watcher.save, []

  def interrupted(watcher):
    calls.append(watcher)
    if len(calls) == 1:
      raise KeyboardInterrupt
    save(watcher)

  monkeypatch.setattr(watching.Watcher, "save", interrupted)
  watcher = watching.Watcher(detector, state=path)
  assert watching.watch(watcher, ["[0, 0]"] * 3, lambda _: None).records == 3
  assert watching.Watcher(detector, state=path).state.seen == 3


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory):
  path = tmp_path_factory.mktemp("detectors") / "detector"
  detector.save(path)
  return path


def start(*arguments):
  return started("-m", "launch.watch", *arguments, text=True, env={"PYTHONUNBUFFERED": ""})


def next_line(process):
  """What is written while standard input stays open."""
  ready, _, _ = select.select([process.stdout], [], [], 60.0)
  assert ready, "nothing is written before the stream ends"
  return json.loads(process.stdout.readline())


@pytest.mark.slow
def test_lines_come_at_once_and_ctrl_c_ends_it(folder, tmp_path):
  process = start(f"--detector={folder}", f"--state={tmp_path / 'state.json'}")
  for number in (1, 2):
    process.stdin.write("[9, 9]\n")
    process.stdin.flush()
    assert next_line(process)["line"] == number
  process.send_signal(signal.SIGINT)
  said, errors = process.communicate()
  assert (process.returncode, said) == (0, "")
  assert errors == "2 records, 2 anomalous; no alarm.\n"
  assert json.loads((tmp_path / "state.json").read_text())["monitor"]["state"]["seen"] == 2


@pytest.mark.slow
def test_a_closed_pipe_ends_it(folder):
  process = start(f"--detector={folder}", "--on_bad_row=skip")
  process.stdin.write("x\n[9, 9]\n")
  process.stdin.flush()
  assert next_line(process)["line"] == 2
  process.stdout.close()
  process.stdin.write("[0, 0]\n" * 3)
  process.stdin.close()
  errors = process.stderr.read()
  process.stderr.close()
  assert process.wait() == 0
  assert (
    errors == "1 bad lines; the first: line 1 is not JSON.\n2 records, 1 anomalous; no alarm.\n"
  )


def test_the_figure_shows_scores_and_martingale_with_their_thresholds(rng):
  scores, capital = rng.normal(size=50), np.linspace(-0.3, 4.0, 50)
  figure = drift.drift(scores, capital, threshold=1.5, false_alarm_rate=0.01, change=20, alarm=30)
  assert isinstance(figure, Figure)
  top, bottom = figure.axes
  drawn = np.concatenate([points.get_offsets() for points in top.collections])
  np.testing.assert_array_equal(sorted(drawn.tolist()), np.column_stack([np.arange(1, 51), scores]))
  assert (top.collections[1].get_offsets()[:, 1] > 1.5).all()
  np.testing.assert_array_equal(bottom.lines[0].get_ydata(), capital)
  heights = [list(line.get_ydata()) for line in bottom.lines]
  assert [2.0, 2.0] in heights
  assert [1.5, 1.5] in [list(line.get_ydata()) for line in top.lines]
  for axes in (top, bottom):
    assert [21, 21] in [list(line.get_xdata()) for line in axes.lines]
  assert any("31" in text.get_text() for text in bottom.texts)
  assert len(drift.drift(scores, capital, threshold=1.5, false_alarm_rate=0.1).axes) == 2


@pytest.fixture(scope="module")
def of_windows():
  x = np.random.default_rng(0).normal(size=(60, 4, 2))
  return detector_jax.Detector.create(
    lambda _, x: x[:, :, 0].sum(axis=1) + x[:, -1, 1],
    {},
    Identity(),
    (4, 2),
    metadata={"feature_names": ["a", "b"]},
  ).calibrate(x, 0.1)


@pytest.mark.parametrize("stride", [1, 3])
def test_steps_are_scored_as_the_windows_that_they_end(of_windows, records, stride):
  seen = []

  class Watcher(watching_steps.StepWatcher):
    def see(self, scores):
      seen.extend(scores.tolist())
      return super().see(scores)

  lines = [json.dumps({"a": a, "t": "now", "b": b}) for a, b in records.tolist()]
  got, tally = told(Watcher(of_windows, stride=stride), lines)
  windows = np.lib.stride_tricks.sliding_window_view(records, 4, axis=0).swapaxes(1, 2)[::stride]
  assert [line["line"] for line in got] == list(range(4, 61, stride))
  scores = of_windows.score(windows)
  np.testing.assert_allclose([line["score"] for line in got], scores, rtol=1e-5, atol=1e-6)
  assert tally.records == len(windows)
  apart = scores[:: -(-4 // stride)]  # which share no step
  np.testing.assert_allclose(seen, apart, rtol=1e-5, atol=1e-6)


def test_a_bad_step_begins_the_window_anew(of_windows, records):
  lines = lines_of(records[:12])
  lines[5] = "[1, null]"
  watcher = watching_steps.StepWatcher(of_windows)
  got, tally = told(watcher, lines, "skip")
  assert [line["line"] for line in got] == [4, 5, 10, 11, 12]
  assert tally.first_bad == "line 6 holds something that is no number"
  got, _ = told(watching_steps.StepWatcher(of_windows), lines, "nan")
  assert [line["line"] for line in got if line["score"] is None] == [6]
  with pytest.raises(ValueError, match=r"Line 1 has shape \[3\] where the detector takes \[2\]"):
    told(watching_steps.StepWatcher(of_windows), ["[1, 2, 3]"])


def test_a_gap_in_time_begins_the_window_anew(of_windows, records, caplog):
  times = [*range(6), *range(60, 70), 70.5, *range(72, 76)]
  lines = [
    json.dumps({"t": t, "a": a, "b": b})
    for t, (a, b) in zip(times, records[: len(times)].tolist(), strict=True)
  ]
  got, tally = told(watching_steps.StepWatcher(of_windows, time="t"), lines)
  assert [line["line"] for line in got] == [4, 5, 6, *range(10, 17), 21]
  assert not tally.bad
  windows = [records[line["line"] - 4 : line["line"]] for line in got]
  scores = of_windows.score(np.stack(windows))
  np.testing.assert_allclose([line["score"] for line in got], scores, rtol=1e-5, atol=1e-6)
  assert "Time goes on by 55 where 1 is usual" in caplog.text
  without, _ = told(watching_steps.StepWatcher(of_windows), lines)
  assert len(without) == len(times) - 3
  days = [json.dumps({"t": f"2026-11-{day:02}", "a": 0, "b": 0}) for day in (1, 2, 3, 5, 6, 7, 8)]
  got, _ = told(watching_steps.StepWatcher(of_windows, time="t"), days)
  assert [line["line"] for line in got] == [7]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("[1, 2]", "Line 1 has no 't', which --time names"),
    ('{"a": 1, "b": 2}', "Line 1 has no 't', which --time names"),
    ('{"a": 1, "b": 2, "t": "noon"}', "Line 1 has 'noon' in 't', no number or ISO 8601 time"),
  ],
)
def test_a_line_without_its_time_is_refused(of_windows, line, message):
  with pytest.raises(ValueError, match=message):
    told(watching_steps.StepWatcher(of_windows, time="t"), [line])


def test_steps_are_for_detectors_of_windows(detector):
  with pytest.raises(ValueError, match=r"--window is for detectors of windows .* are \(2,\)"):
    watching_steps.StepWatcher(detector)
