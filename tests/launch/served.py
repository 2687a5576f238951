"""A small detector that is served, and requests in one process, without a socket."""

import asyncio
import contextlib
import re

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

import detector_jax
from detector_jax import typical
from detector_jax.preprocessing import Identity

ARROW, JSON = "application/vnd.apache.arrow.stream", "application/json"


def linear(variables, x):
  return x @ variables


def made(weights=(1.0, 2.0), usual=None, input_range=None, **facts):
  """A weighted sum, calibrated at 10 %; ``usual`` are typical records to explain others with."""
  x = np.random.default_rng(0).normal(size=(50, len(weights)))
  detector = detector_jax.Detector.create(
    linear,
    jnp.asarray(weights),
    Identity(),
    (len(weights),),
    input_range=input_range,
    metadata={"feature_names": ["a", "b"], **facts},
  )
  detector = detector if usual is None else typical.with_typical(detector, usual)
  return detector.calibrate(x, 0.1)


def dicts(x, **more):
  return [{"b": b, "id": f"no {i}", "a": a, **more} for i, (a, b) in enumerate(x.tolist())]


@contextlib.asynccontextmanager
async def client_of(service):
  """Asks a running service."""
  import httpx  # of the extra dev, as launch.serving is of serve

  from launch.serving.app import app_of

  transport = httpx.ASGITransport(app_of(service), raise_app_exceptions=False)
  client = httpx.AsyncClient(transport=transport, base_url="http://service")
  async with service.running(), client:
    yield client


def asked(service, *requests, together=False):
  """The answers of a service.

  A request is keywords of httpx, a path that is got, or how many records must have been watched
  before the next one.
  """

  async def one(client, request):
    while isinstance(request, int) and service.tally.records < request:
      await asyncio.sleep(0.001)
    if isinstance(request, int):
      return None
    if isinstance(request, str):
      return await client.get(request)
    return await client.post("/score", **{"params": {}, **request})

  async def all_of_them():
    async with client_of(service) as client:
      if together:
        return await asyncio.gather(*(one(client, request) for request in requests))
      return [await one(client, request) for request in requests]

  return asyncio.run(all_of_them())


def stream(table):
  sink = pa.BufferOutputStream()
  with pa.ipc.new_stream(sink, table.schema) as writer:
    writer.write_table(table)
  return {"content": sink.getvalue().to_pybytes(), "headers": {"content-type": ARROW}}


def metric(text, name):
  return float(re.search(rf"^{re.escape(name)} (.*)$", text, re.M)[1])
