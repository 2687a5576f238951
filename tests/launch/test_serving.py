"""A service: answers in the form of the records, together or alone; limits, drift, repeats."""

import asyncio
import contextlib
import json
import re

import numpy as np
import pyarrow as pa
import pytest

import detector_jax
from detector_jax import program
from tests.launch.served import ARROW, JSON, asked, client_of, dicts, metric, stream

REASON = "the extra serve is not installed"
pytest.importorskip("httpx", reason=REASON)
microbatches = pytest.importorskip("launch.serving.microbatches", reason=REASON)
serving = pytest.importorskip("launch.serving.service", reason=REASON)
Limits, Service = serving.Limits, serving.Service
QUICK = Limits(max_batch=16, max_wait_ms=0.0)


@pytest.mark.parametrize("keep", [[], ["id"]])
@pytest.mark.parametrize("form", ["objects", "lists", "arrow"])
def test_the_answer_has_the_form_of_the_records_and_what_a_scorer_says(folder, records, form, keep):
  detector = detector_jax.load(folder)
  want = {
    "id": [f"no {i}" for i in range(30)],
    "score": detector.score(records).astype(np.float64).tolist(),
    "p_value": detector.p_value(records).tolist(),
    "decision": detector.predict(records).tolist(),
  }
  keep = [] if form == "lists" else keep
  want = {name: values for name, values in want.items() if name != "id" or keep}
  request = {
    "objects": {"json": {"records": dicts(records, note="x")}},
    "lists": {"json": {"records": records.tolist()}},
    "arrow": stream(pa.Table.from_pylist(dicts(records, note="x"))),
  }[form]
  (answer,) = asked(Service(folder, QUICK, keep=keep), request)
  assert answer.status_code == 200
  if form == "arrow":
    assert answer.headers["content-type"] == ARROW
    assert pa.ipc.open_stream(answer.content).read_all().to_pydict() == want
  else:
    assert answer.headers["content-type"] == JSON
    got = answer.json()["records"]
    assert [list(row) for row in got] == [list(want)] * 30
    assert {name: [row[name] for row in got] for name in want} == want


def test_an_answer_is_json_whatever_is_kept(folder, records):
  kept = [float("nan"), [float("inf"), "NaN"], 7]
  told = [{**record, "id": value} for record, value in zip(dicts(records), kept, strict=False)]
  body = {"content": json.dumps({"records": told}), "headers": {"content-type": JSON}}
  (answer,) = asked(Service(folder, QUICK, keep=["id"]), body)
  assert answer.status_code == 200
  got = json.loads(answer.content, parse_constant=pytest.fail)["records"]
  assert [row["id"] for row in got] == [None, [None, "NaN"], 7]
  assert [row["score"] for row in got] == detector_jax.load(folder).score(records[:3]).tolist()


@pytest.mark.parametrize("bad", [False, True])
def test_requests_that_come_together_are_one_call_and_a_bad_one_hurts_no_other(
  folder, records, bad
):
  parts = [records[:3], records[3:4], *[np.array([[1.0, 1e6]])] * bad, records[4:]]
  service = Service(folder, Limits(max_batch=64, max_wait_ms=200.0))
  requests = [{"json": {"records": part.tolist()}} for part in parts]
  answers = asked(service, *requests, together=True)
  if bad:
    refused = answers.pop(2)
    assert refused.status_code == 422
    with pytest.raises(ValueError, match="Records range from 1 to 1e") as error:
      detector_jax.Scorer(folder)(parts[2])
    assert refused.json() == {"error": str(error.value)}
  assert [answer.status_code for answer in answers] == [200] * 3
  told = [row["score"] for answer in answers for row in answer.json()["records"]]
  np.testing.assert_array_equal(np.float32(told), detector_jax.load(folder).score(records))
  text = service.measures.text().decode()
  assert metric(text, "detector_call_records_count") == 1
  assert metric(text, "detector_call_records_sum") == 30
  assert 'detector_refusals_total{status="422"} 1.0' in text or not bad


def test_nothing_is_compiled_once_it_is_there(folder, records):
  service = Service(folder, Limits(max_batch=64, max_wait_ms=0.0))
  before = program.scores_of._cache_size(), program.report_of._cache_size()
  x = np.tile(records, (7, 1))
  sizes = [{"json": {"records": x[:n].tolist()}} for n in (1, 8, 9, 64, 65, 200)]
  assert {each.status_code for each in asked(service, *sizes)} == {200}
  assert (program.scores_of._cache_size(), program.report_of._cache_size()) == before


def test_a_call_is_padded_to_the_least_number_that_is_compiled(folder, records, monkeypatch):
  service, padded = Service(folder, Limits(max_batch=300, max_wait_ms=0.0)), []
  verdicts = type(service.scorer).verdicts

  def seen(scorer, x, size=None):
    padded.append((len(x), size))
    return verdicts(scorer, x, size)

  monkeypatch.setattr(type(service.scorer), "verdicts", seen)
  x = np.tile(records, (16, 1))
  sizes = [{"json": {"records": x[:n].tolist()}} for n in (8, 9, 65, 257)]
  assert {each.status_code for each in asked(service, *sizes)} == {200}
  assert [each for each in padded if each[0]] == [(8, 8), (9, 64), (65, 256), (257, 300)]


TOO_LARGE = "larger than 0.001 MiB; send it in parts."
BAD = {
  "no JSON": ({"content": b"{"}, 422, "The body is not JSON (Expecting property"),
  "too deep": ({"content": b"[" * 1040}, 422, "The body is not JSON ("),
  "a list": ({"json": [1]}, 422, 'holds no list of records; send {"records": [{"column": value'),
  "a text": ({"json": {"records": "ab"}}, 422, "The body holds no list of records"),
  "a number": ({"json": {"records": [1]}}, 422, "trained on [n, 2], got [1]"),
  "two kinds": ({"json": {"records": [[1, 2], {"a": 1, "b": 2}]}}, 422, "Some records are objects"),
  "ragged": ({"json": {"records": [[1, 2], [3]]}}, 422, "lists of different lengths"),
  "text in lists": ({"json": {"records": [[1, "2"]]}}, 422, "something that is no number"),
  "null": ({"json": {"records": [[1, None]]}}, 422, "Input contains NaN at row 0, column 'b'"),
  "nan": ({"content": b'{"records": [{"a": NaN, "b": 1}]}'}, 422, "contains NaN at row 0, column"),
  "huge in lists": ({"json": {"records": [[1, 10**400]]}}, 422, "whole number that is too large"),
  "huge": (
    {"json": {"records": [{"a": 1, "b": 10**400}]}},
    422,
    "'1000000000000000000000000000000",
  ),
  "text": (
    {"json": {"records": [{"a": 1, "b": "x"}]}},
    422,
    "Column 'b' holds text; encode the column",
  ),
  "nested": (
    {"json": {"records": [{"a": 1, "b": {"c": 1}}]}},
    422,
    "column 'b' holds \"{'c': 1}\"",
  ),
  "lacking": (
    {"json": {"records": [{"a": 1}]}},
    422,
    "lack 'b', which the detector was trained on",
  ),
  "one lacking": ({"json": {"records": [{"a": 1, "b": 2}, {"a": 1}]}}, 422, "Record 1 lacks 'b'"),
  "shape": ({"json": {"records": [[1, 2, 3]]}}, 422, "trained on [n, 2], got [1, 3]"),
  "range": ({"json": {"records": [[1, 1e9]]}}, 422, "Records range from 1 to 1e+09"),
  "many": ({"json": {"records": [[1, 2]] * 21}}, 413, "has more than 20 records; send them in"),
  "many in Arrow": (stream(pa.table({"a": [1.0] * 21})), 413, "has more than 20 records"),
  "no Arrow": (
    {"content": b"x", "headers": {"content-type": ARROW}},
    422,
    "no stream of Arrow IPC",
  ),
  "large": ({"content": b"x" * 2000}, 413, TOO_LARGE),
  "other form": ({"content": b"x", "headers": {"content-type": "a/b"}}, 415, "is 'a/b'; send app"),
  "no form": (
    {"content": b"x", "headers": {"content-type": ""}},
    415,
    "The Content-Type is missing",
  ),
  "no reasons": (
    {"json": {}, "params": {"explain": "1"}},
    422,
    "gives no reasons; leave explain out",
  ),
  "what reasons": (
    {"json": {}, "params": {"explain": "x"}},
    422,
    "parameter explain must be true or false",
  ),
  "long key": (
    {"json": {}, "headers": {"idempotency-key": "x" * 256}},
    422,
    "longer than 255 char",
  ),
}


def test_a_request_that_cannot_be_answered_is_told_why_in_one_sentence(folder):
  service = Service(folder, Limits(max_batch=8, max_wait_ms=0.0, max_records=20, max_mb=0.001))
  requests = [request for request, _, _ in BAD.values()]
  requests = [{"headers": {"content-type": JSON}, **each} for each in requests]
  good = {"json": {"records": [[1, 2]]}}
  *answers, last = asked(service, *requests, good)
  for (name, (_, status, sentence)), answer in zip(BAD.items(), answers, strict=True):
    assert (name, answer.status_code) == (name, status)
    assert sentence in answer.json()["error"], name
    assert re.fullmatch(r"[A-Z][^\n]*\.", answer.json()["error"]), name
  assert last.status_code == 200
  assert service.tally.records == 1


def test_a_body_whose_length_nobody_says_is_not_read_beyond_the_limit(folder):
  read = []

  async def parts():
    for part in range(100):
      read.append(part)
      yield b"x" * 500

  service = Service(folder, Limits(max_batch=8, max_mb=0.001))
  (answer,) = asked(service, {"content": parts(), "headers": {"content-type": JSON}})
  assert (answer.status_code, answer.json()) == (413, {"error": f"The request is {TOO_LARGE}"})
  assert len(read) < 10


def test_other_paths_and_methods_are_refused(folder):
  service = Service(folder, QUICK)
  score, other = asked(service, "/score", "/scores")
  assert (score.status_code, score.headers["allow"]) == (405, "POST")
  assert other.status_code == 404
  assert "ask /score, /health, /schema or /metrics" in other.json()["error"]


@pytest.mark.parametrize("limit", [{"max_waiting": 10}, {"max_requests": 2}])
def test_beyond_its_limits_requests_are_sent_away_and_the_others_answered(folder, records, limit):
  service = Service(folder, Limits(max_batch=64, max_wait_ms=300.0, **limit))
  requests = [{"json": {"records": records[i : i + 5].tolist()}} for i in range(4)]
  answers = asked(service, *requests, together=True)
  assert [answer.status_code for answer in answers] == [200, 200, 503, 503]
  assert answers[3].headers["retry-after"] == "1"
  assert answers[3].json() == {"error": "The service is busy; send the request again in a second."}


def test_a_request_waits_no_longer_than_stated_and_a_full_call_begins_at_once():
  async def seconds(max_batch, max_wait, requests):
    seen = []
    batcher = microbatches.Batcher(
      lambda x: {"score": x[:, 0]},
      lambda told: seen.append(len(told)),
      max_batch=max_batch,
      max_wait=max_wait,
      max_waiting=100,
    )
    run = asyncio.ensure_future(batcher.run())
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = await asyncio.gather(*(batcher.told(np.full((n, 1), n)) for n in requests))
    took = loop.time() - began
    batcher.close()
    await run
    assert [each["score"].tolist() for each in answers] == [[n] * n for n in requests]
    return took, seen

  took, seen = asyncio.run(seconds(100, 0.1, [1, 2]))
  assert 0.09 < took < 1.0
  assert seen == [2]
  took, seen = asyncio.run(seconds(4, 60.0, [2, 2, 3, 1, 9]))
  assert took < 10.0
  assert seen == [2, 2, 1]


def test_a_fault_of_the_scoring_ends_no_other_request(folder, records, monkeypatch):
  verdicts = detector_jax.Scorer.verdicts

  def faulty(scorer, x, size=None):
    if len(x) == 1:
      raise RuntimeError("out of memory")
    return verdicts(scorer, x, size)

  service = Service(folder, QUICK)
  monkeypatch.setattr(detector_jax.Scorer, "verdicts", faulty)
  bad, good = asked(service, *({"json": {"records": records[:n].tolist()}} for n in (1, 2)))
  assert (bad.status_code, good.status_code) == (500, 200)
  assert bad.json() == {"error": "The service failed at this request; its log says why."}


def keyed(x, key="k"):
  return {"json": {"records": x.tolist()}, "headers": {"idempotency-key": key}}


@pytest.mark.parametrize("together", [False, True])
def test_a_request_that_comes_again_with_its_key_is_scored_once(folder, records, together):
  service = Service(folder, Limits(max_batch=64, max_wait_ms=20.0))
  requests = [keyed(records), keyed(records), keyed(records[:2]), keyed(records, "other")]
  first, again, mistaken, other = asked(service, *requests, together=together)
  assert first.content == again.content == other.content
  assert mistaken.status_code == 422
  assert "was that of another request; give each its own." in mistaken.json()["error"]
  assert service.tally.records == service.watcher.state.seen == 60
  assert metric(service.measures.text().decode(), "detector_repeated_requests_total") == 1


def test_a_refused_request_may_come_again_and_old_answers_are_forgotten(folder, records):
  limits = Limits(max_batch=64, max_wait_ms=0.0, remembered_mb=0.003)
  bad = keyed(np.array([[1e9, 1.0]]))
  service = Service(folder, limits)
  requests = [bad, bad, keyed(records), keyed(records, "2"), keyed(records, "2"), keyed(records)]
  codes = [answer.status_code for answer in asked(service, *requests)]
  assert codes == [422, 422, 200, 200, 200, 200]
  assert service.tally.records == 90


def test_the_answer_to_a_client_that_has_gone_is_kept_for_it(folder, records):
  """Its connection breaks while the records are scored; it sends the request again."""
  service = Service(folder, Limits(max_batch=64, max_wait_ms=50.0))

  async def twice():
    async with client_of(service) as client:
      first = asyncio.ensure_future(client.post("/score", **keyed(records)))
      await asyncio.sleep(0.01)
      first.cancel()
      with contextlib.suppress(asyncio.CancelledError):
        await first
      return await client.post("/score", **keyed(records))

  answer = asyncio.run(twice())
  assert answer.status_code == 200
  assert len(answer.json()["records"]) == service.tally.records == 30
