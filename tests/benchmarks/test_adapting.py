"""The table of adaptations makes the streams that it names and counts what it says."""

import numpy as np
import pytest

from benchmarks import adapting
from detector_jax.adaptation import BLOCK


@pytest.fixture
def short(monkeypatch):
  monkeypatch.setattr(adapting, "LENGTH", 2000)


def ranges(scores):
  low, middle, high = np.quantile(scores, [0.25, 0.5, 0.75])
  return middle, high - low


@pytest.mark.usefixtures("short")
def test_streams_change_as_their_rows_say():
  middle, width = ranges(np.random.default_rng(0).gamma(4.0, size=10**5))
  calibration, scores, anomalous = adapting.stream("nothing changes", 0)
  assert (len(calibration), len(scores), anomalous.any()) == (adapting.CALIBRATION, 2000, False)
  np.testing.assert_allclose(ranges(scores), (middle, width), rtol=0.1)
  _, scores, _ = adapting.stream("jump", 0)
  assert ranges(scores[:500])[0] == pytest.approx(middle, rel=0.1)
  assert ranges(scores[500:])[0] == pytest.approx(middle + width, rel=0.1)
  _, scores, _ = adapting.stream("slow drift", 0)
  late = ranges(scores[-200:])
  assert late[1] == pytest.approx(1.95 * width, rel=0.25)
  assert late[0] == pytest.approx(1.95 * middle + 2.85 * width, rel=0.1)
  _, scores, anomalous = adapting.stream("5 % anomalies", 0)
  assert 0.03 < anomalous.mean() < 0.07
  assert scores[anomalous].min() > np.quantile(scores[~anomalous], 0.93)


def test_judged_alarms_are_those_that_were_false(rng):
  calibration, scores = rng.normal(size=100), rng.normal(size=10 * BLOCK)
  anomalous = rng.uniform(size=len(scores)) < 0.5
  scores[anomalous] = 9.0
  flagged = adapting.decisions(calibration, scores, anomalous)
  assert flagged["adapt=judged"][anomalous].all()
  assert not flagged["adapt=all"][anomalous].all()
  assert flagged[adapting.FIXED][anomalous].all()
  first = {name: decided[:BLOCK].tolist() for name, decided in flagged.items()}
  assert len(set(map(tuple, first.values()))) == 1


@pytest.mark.usefixtures("short")
def test_shares_are_of_the_second_half_in_percent(monkeypatch):
  late = np.arange(2000) >= 1000
  monkeypatch.setattr(adapting, "decisions", lambda *given: {"a": late, "b": ~late, "c": given[2]})
  cell = adapting._measure("5 % anomalies", 0)
  assert cell["a"] == {adapting.FALSE: 100.0, adapting.FOUND: 100.0}
  assert cell["b"] == {adapting.FALSE: 0.0, adapting.FOUND: 0.0}
  assert cell["c"] == {adapting.FALSE: 0.0, adapting.FOUND: 100.0}


def test_streams_with_an_alarm_of_drift_are_counted(monkeypatch):
  monkeypatch.setattr(adapting, "STREAMS", 2)
  monkeypatch.setattr(adapting, "SHORT", 200)
  assert all(cell == {"drift alarms": 0.0} for cell in adapting._drift_alarms(0).values())
  monkeypatch.setattr(adapting, "_drawn", lambda kind, rng, size: np.linspace(0.0, 9.0, size))
  assert all(cell == {"drift alarms": 100.0} for cell in adapting._drift_alarms(0).values())


@pytest.mark.usefixtures("short")
def test_a_panel_has_a_line_of_each_method():
  figure = adapting._figure(1)
  assert [axes.get_title() for axes in figure.axes] == list(adapting.DRAWN)
  assert all(len(axes.lines) == 6 for axes in figure.axes)


def test_every_cell_is_counted(monkeypatch):
  monkeypatch.setattr(adapting, "_measure", lambda row, seed: {"m": {"x": float(seed)}})
  monkeypatch.setattr(adapting, "_figure", lambda seeds: None)
  told = []
  records, _ = adapting.table(2, lambda *_: told.append(1), adapting.Ledger())
  assert len(told) == adapting.count(2) == 2 * len(records)
  assert {record.mean for record in records} == {0.5}
