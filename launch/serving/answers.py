"""Requests that come again: one with the key of another gets its answer and is not scored again."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
import hashlib

from launch.serving.refusals import RefusedError


class Answers:
  """Answers by the key of their request, the latest ones.

  A client that lost its answer sends the request again under the same key, and gets the very bytes
  that it would have got; meanwhile nothing is computed or counted twice, not even where the first
  request is still being answered. Refused requests are not remembered.

  Args:
    most_bytes: of answers that are kept; the oldest go first.
    repeated: is called for a request that gets the answer of another.
  """

  def __init__(self, most_bytes: int, repeated: Callable[[], object]):
    self._most, self._repeated = most_bytes, repeated
    self._bytes = 0
    self._kept: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
    self._coming: dict[str, tuple[bytes, asyncio.Task[bytes]]] = {}

  async def of(self, key: str, request: bytes, answer: Callable[[], Awaitable[bytes]]) -> bytes:
    """The answer to a request.

    Args:
      key: of the request.
      request: all of it that the answer depends on.
      answer: computes it.

    Raises:
      RefusedError: another request had the key; or what ``answer`` raises.
    """
    digest = hashlib.sha256(request).digest()
    if key in self._kept or key in self._coming:
      known = self._kept[key][0] if key in self._kept else self._coming[key][0]
      if known != digest:
        raise RefusedError(
          422, "The Idempotency-Key was that of another request; give each its own."
        )
      self._repeated()
      if key in self._kept:
        return self._kept[key][1]
    else:
      self._coming[key] = digest, asyncio.ensure_future(self._computed(key, digest, answer))
    return await asyncio.shield(self._coming[key][1])  # whoever asked first may go away

  async def _computed(
    self, key: str, digest: bytes, answer: Callable[[], Awaitable[bytes]]
  ) -> bytes:
    try:
      body = await answer()
      self._kept[key] = digest, body
      self._bytes += len(body)
      while self._bytes > self._most:
        self._bytes -= len(self._kept.popitem(last=False)[1][1])
      return body
    finally:
      del self._coming[key]
