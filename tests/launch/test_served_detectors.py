"""A service and its detector: the drift alarm, bad records, reasons, no calibration, the schema."""

import json
import logging

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

import detector_jax
from detector_jax import program
from detector_jax.preprocessing import Identity
from detector_jax.schema import learn
from launch import watching
from tests.launch.served import asked, dicts, linear, made, metric, stream

REASON = "the extra serve is not installed"
pytest.importorskip("httpx", reason=REASON)
serving = pytest.importorskip("launch.serving.service", reason=REASON)
Limits, Service = serving.Limits, serving.Service
QUICK = Limits(max_batch=16, max_wait_ms=0.0)


def test_the_alarm_is_that_of_launch_watch_and_told_once(folder, records, tmp_path, caplog):
  records[10:] += 4.0
  detector = detector_jax.load(folder)
  lines = [json.dumps(record) for record in records.tolist()]
  watcher, written = watching.Watcher(detector, false_alarm_rate=0.05), []
  tally = watching.watch(watcher, lines, written.append)
  path = tmp_path / "state.json"
  service = Service(folder, QUICK, false_alarm_rate=0.05, state=path)
  with caplog.at_level(logging.WARNING):
    posts = [{"json": {"records": records[i : i + 5].tolist()}} for i in range(0, 30, 5)]
    *_, health, text = asked(service, *posts, 30, "/health", "/metrics")
  assert 11 < tally.alarm < 30
  want = json.loads(written[-1])["log10_martingale"]
  assert health.json() == {
    "status": "ok",
    "records": 30,
    "anomalous": tally.anomalous,
    "bad": 0,
    "waiting": 0,
    "drift": {
      "alarm": True,
      "alarm_at_record": tally.alarm,
      "log10_martingale": pytest.approx(want),
      "false_alarm_rate": 0.05,
      "records": 30,
    },
  }
  assert [message for message in caplog.messages if "Drift" in message] == [
    f"Drift alarm at record {tally.alarm}: the records no longer look like those of the "
    "calibration (false-alarm rate 0.05)."
  ]
  assert metric(text.text, "detector_drift_alarm") == 1
  assert metric(text.text, "detector_drift_log10_martingale") == pytest.approx(want)
  assert metric(text.text, "detector_p_value_count") == 30
  assert metric(text.text, 'detector_records_total{decision="anomalous"}') == tally.anomalous
  going_on = Service(folder, QUICK, state=path)
  (health,) = asked(going_on, "/health")
  assert health.json()["drift"]["alarm"]
  assert health.json()["drift"]["records"] == 30


def test_bad_records_are_left_empty_or_out(folder, records):
  records[1, 0] = np.nan
  rows = dicts(records[:3])
  rows[1]["a"] = None
  service = Service(folder, QUICK, keep=["id"], on_bad_row="nan")
  requests = [{"json": {"records": rows}}, {"json": {"records": rows[1:2]}}]
  whole, none = asked(service, *requests)
  empty = {"id": "no 1", "score": None, "p_value": None, "decision": None}
  assert whole.json()["records"][1] == empty
  assert whole.json()["records"][2]["score"] is not None
  assert none.json()["records"] == [empty]
  assert (service.tally.records, service.tally.bad) == (2, 2)
  service = Service(folder, QUICK, keep=["id"], on_bad_row="skip")
  (left,) = asked(service, {"json": {"records": rows}})
  assert [row["id"] for row in left.json()["records"]] == ["no 0", "no 2"]


def test_no_records_get_no_scores(folder):
  objects, arrow = asked(
    Service(folder, QUICK),
    {"json": {"records": []}},
    stream(pa.table({"a": pa.array([], "f8"), "b": pa.array([], "f8")})),
  )
  assert objects.json() == {"records": []}
  table = pa.ipc.open_stream(arrow.content).read_all()
  assert (table.column_names, len(table)) == (["score", "p_value", "decision"], 0)


def test_reasons_are_those_of_the_detector(tmp_path):
  x = np.random.default_rng(3).normal(size=(200, 2))
  made(usual=x).save(tmp_path / "detector")
  detector, records = detector_jax.load(tmp_path / "detector"), np.array([[0.0, 0.1], [9.0, 9.0]])
  service = Service(tmp_path / "detector", Limits(max_batch=64), explain=True)
  requests = [
    {"json": {"records": records.tolist()}, "params": {"explain": "true"}},
    stream(pa.table({"a": records[:, 0], "b": records[:, 1]})) | {"params": {"explain": "true"}},
    {"json": {"records": records.tolist()}},
    {"json": {"records": x[:101].tolist()}, "params": {"explain": "true"}},
  ]
  before = program.scores_of._cache_size()
  told, arrow, plain, many = asked(service, *requests)
  reasons = [None, detector.explain(records[1:]).describe()[0]]
  assert [row["reason"] for row in told.json()["records"]] == reasons
  assert pa.ipc.open_stream(arrow.content).read_all()["reason"].to_pylist() == reasons
  assert "reason" not in plain.json()["records"][0]
  assert many.status_code == 413
  assert "has at most 100 records, got 101" in many.json()["error"]
  assert service.tally.records == 6
  assert program.scores_of._cache_size() == before + 1  # of detector.explain itself


def test_a_detector_without_calibration_has_no_p_value_and_no_alarm(tmp_path, caplog):
  path = tmp_path / "detector"
  detector_jax.Detector.create(linear, jnp.asarray([1.0, 2.0]), Identity(), (2,)).save(path)
  with caplog.at_level(logging.WARNING):
    answer, health = asked(Service(path, QUICK), {"json": {"records": [[1, 2]]}}, "/health")
  assert answer.json() == {"records": [{"score": 5.0, "decision": 1}]}
  assert health.json()["drift"] is None
  assert "not calibrated: there are no p-values, and no drift alarm." in caplog.text
  with pytest.raises(ValueError, match="drift cannot be watched: leave --false_alarm_rate and"):
    Service(path, QUICK, false_alarm_rate=0.1)


def test_the_schema_says_what_is_taken_and_given(tmp_path):
  rows = [{"size": float(i % 7), "kind": "xy"[i % 2], "key": f"k{i}"} for i in range(40)]
  schema = learn(rows)
  facts = {"schema": schema.to_json(), "feature_names": list(schema.features)}
  made((1.0, 2.0, 4.0, 8.0), **facts).save(tmp_path / "detector")
  service = Service(tmp_path / "detector", QUICK, keep=["key"])
  said, answer = asked(
    service, "/schema", {"json": {"records": [{"kind": "y", "key": 7, "size": "2.5"}]}}
  )
  columns = [(column["name"], column["kind"]) for column in said.json()["columns"]]
  assert columns == [("size", "number"), ("kind", "category")]
  assert said.json()["answer"] == ["key", "score", "p_value", "decision"]
  assert said.json()["limits"] == {"records": 10_000, "MiB": 16.0, "wait_ms": 0.0}
  assert answer.json()["records"][0]["key"] == 7


@pytest.mark.parametrize("limits", [{"max_records": 0}, {"max_wait_ms": float("nan")}])
def test_limits_out_of_their_range_are_refused(limits):
  with pytest.raises(ValueError, match=f"{next(iter(limits))} must be >= "):
    Limits(**limits)


def test_a_state_that_cannot_be_saved_meanwhile_is_logged(folder, records, monkeypatch, caplog):
  monkeypatch.setattr(watching, "SAVE_EVERY", 10)
  service, saves = Service(folder, QUICK), []

  def save():
    saves.append(service.tally.records)
    if len(saves) == 1:
      raise OSError("The state cannot be written.")

  monkeypatch.setattr(service.watcher, "save", save)
  posts = [{"json": {"records": records[i : i + 6].tolist()}} for i in range(0, 24, 6)]
  assert {answer.status_code for answer in asked(service, *posts)} == {200}
  assert saves == [12, 24, 24]
  assert "The state cannot be written." in caplog.messages
