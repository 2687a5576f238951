"""The paths of a service: /score, /health, /schema and /metrics."""

import asyncio
from collections.abc import Awaitable, Callable
import logging
import time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import detector_jax
from launch.serving.bodies import ARROW, JSON, Form
from launch.serving.refusals import RefusedError
from launch.serving.service import BUSY, Service

logger = logging.getLogger(__name__)

BODY_SECONDS, KEY_LENGTH = 30.0, 255
GONE = 499  # nobody reads it
EXPLAIN = {"": False, "0": False, "false": False, "1": True, "true": True}


def app_of(service: Service) -> Starlette:
  """The application; it answers while ``service.running()``."""
  paths = _Paths(service)
  return Starlette(
    routes=[
      Route("/score", paths.score, methods=["POST"]),
      Route("/health", paths.health),
      Route("/schema", paths.schema),
      Route("/metrics", paths.metrics),
    ],
    exception_handlers={HTTPException: _no_path, Exception: _failed},
  )


class _Paths:
  """What each path answers.

  Args:
    service: that is asked.
  """

  def __init__(self, service: Service):
    self._service = service
    self._requests = 0

  async def score(self, request: Request) -> Response:
    """Scores in the form of the records, or ``{"error": sentence}``."""
    began, measures = time.perf_counter(), self._service.measures
    try:
      media, body = await self._within_limit(self._scored, request)
    except RefusedError as refusal:
      measures.refusals.labels(str(refusal.status)).inc()
      return _error(refusal.status, refusal.sentence)
    measures.requests.labels("arrow" if media == ARROW else "json").inc()
    measures.seconds.observe(time.perf_counter() - began)
    return Response(body, media_type=media)

  async def _within_limit(
    self, answer: Callable[[Request], Awaitable[tuple[str, bytes]]], request: Request
  ) -> tuple[str, bytes]:
    if self._requests >= self._service.limits.max_requests:
      raise RefusedError(503, BUSY)
    self._requests += 1
    try:
      return await answer(request)
    finally:
      self._requests -= 1

  async def _scored(self, request: Request) -> tuple[str, bytes]:
    form = Form.of(request.headers.get("content-type", ""), self._service.limits.max_records)
    explain = EXPLAIN.get(request.query_params.get("explain", "").lower())
    if explain is None:
      raise RefusedError(
        422,
        f"The parameter explain must be true or false, got {request.query_params['explain']!r}.",
      )
    key = request.headers.get("idempotency-key", "")
    if len(key) > KEY_LENGTH:
      raise RefusedError(
        422, f"The Idempotency-Key is longer than {KEY_LENGTH} characters; shorten it."
      )
    body = await self._body(request)
    return form.media, await self._service.answer(form, body, explain, key)

  async def _body(self, request: Request) -> bytes:
    """The body of a request, which is not read on beyond the limit."""
    most = self._service.limits.max_mb
    too_large = RefusedError(413, f"The request is larger than {most:g} MiB; send it in parts.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > 2**20 * most:
      raise too_large
    parts, size = [], 0
    try:
      async with asyncio.timeout(BODY_SECONDS):
        async for part in request.stream():
          parts.append(part)
          size += len(part)
          if size > 2**20 * most:
            raise too_large
    except TimeoutError:
      raise RefusedError(408, f"The request took longer than {BODY_SECONDS:g} s to come.") from None
    except ClientDisconnect:
      raise RefusedError(GONE, "The connection was closed before the request had come.") from None
    return b"".join(parts)

  async def health(self, request: Request) -> Response:
    """Whether requests are answered, what was, and whether the records have drifted."""
    del request
    service, drift = self._service, None
    if service.watcher is not None:
      told = service.watcher.told()
      drift = {
        "alarm": told["alarm"],
        "alarm_at_record": service.tally.alarm,
        "log10_martingale": told["log10_martingale"],
        "false_alarm_rate": service.watcher.monitor.false_alarm_rate,
        "records": service.watcher.state.seen,
      }
    said = {
      "status": "stopping" if service.stopping else "ok",
      "records": service.tally.records,
      "anomalous": service.tally.anomalous,
      "bad": service.tally.bad,
      "waiting": service.waiting,
      "drift": drift,
    }
    return JSONResponse(said, 503 if service.stopping else 200)

  async def schema(self, request: Request) -> Response:
    """What /score takes and gives."""
    del request
    service, detector = self._service, self._service.scorer.detector
    limits = service.limits
    return JSONResponse(
      {
        "method": detector.metadata.get("method"),
        "release": detector_jax.__version__,
        "columns": _columns(detector),
        "shape": list(detector.input_shape) if detector.schema is None else None,
        "keep": list(service.keep),
        "answer": [*service.scorer.columns, *(("reason",) * service.explains)],
        "forms": [JSON, ARROW],
        "on_bad_row": service.on_bad_row,
        "threshold": detector.threshold,
        "rate": detector.rate,
        "limits": {
          "records": limits.max_records,
          "MiB": limits.max_mb,
          "wait_ms": limits.max_wait_ms,
        },
      }
    )

  async def metrics(self, request: Request) -> Response:
    """For Prometheus."""
    del request
    return Response(self._service.measures.text(), media_type="text/plain; version=0.0.4")


def _columns(detector: detector_jax.Detector) -> Any:
  """What is known of the columns of a record: name and kind; None where they have no names."""
  if (schema := detector.schema) is not None:
    return [
      {"name": column.name, "kind": column.kind, "description": column.describe()}
      for column in schema.columns
      if column.kind != "drop"
    ]
  names = detector.feature_names
  return [{"name": name, "kind": "number"} for name in names] if names else None


def _error(status: int, sentence: str) -> Response:
  headers = {"Retry-After": "1"} if status == 503 else None
  return JSONResponse({"error": sentence}, status, headers)


async def _no_path(request: Request, error: Exception) -> Response:
  assert isinstance(error, HTTPException)
  if error.status_code == 405:
    sentence = f"{request.url.path} takes no {request.method}; POST goes to /score, GET elsewhere."
    return JSONResponse({"error": sentence}, 405, error.headers)
  return _error(
    error.status_code, f"There is no {request.url.path}; ask /score, /health, /schema or /metrics."
  )


async def _failed(request: Request, error: Exception) -> Response:
  del request, error  # the server logs its traceback
  return _error(500, "The service failed at this request; its log says why.")
