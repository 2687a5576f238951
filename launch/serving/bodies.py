"""Bodies of requests as batches that a Scorer takes, and its answers as bodies of the same form."""

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa

from detector_jax.scorer import Prepared, Scorer
from detector_jax.table import reason_of
from launch.serving.refusals import RefusedError

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
WANTED = 'send {"records": [{"column": value, ...}, ...]}, or lists of numbers in their place'


@dataclasses.dataclass(frozen=True)
class Form:
  """How records travel.

  Attributes:
    media: type of the body, of a request and of its answer.
    most_records: in one request.
  """

  media: str
  most_records: int

  @classmethod
  def of(cls, header: str, most_records: int) -> "Form":
    """The form that a header ``Content-Type`` names.

    Raises:
      RefusedError: it is another one.
    """
    media = header.partition(";")[0].strip().lower()
    if media not in (JSON, ARROW):
      named = f"is {media!r}" if media else "is missing"
      raise RefusedError(415, f"The Content-Type {named}; send {JSON} or {ARROW}.")
    return cls(media, most_records)

  def prepare(self, body: bytes, scorer: Scorer) -> Prepared:
    """The records of a body.

    Raises:
      RefusedError: there are too many, or the body is of another form.
      ValueError: as ``Scorer.prepare``.
    """
    if self.media == ARROW:
      return scorer.prepare(self._table(body))
    values = self._records(body)
    if all(isinstance(value, dict) for value in values):
      return scorer.prepare(values)
    return scorer.prepare(array_of(values))._replace(batch=values)

  def written(self, answer: Any) -> bytes:
    """The body that tells what a Scorer says."""
    if self.media == JSON:
      try:
        return json.dumps({"records": answer}, allow_nan=False).encode()
      except ValueError:  # a kept cell is what Python's JSON alone can say; null instead
        plain = json.loads(json.dumps(answer), parse_constant=lambda _: None)
        return json.dumps({"records": plain}).encode()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.schema) as writer:
      writer.write_table(answer)
    return sink.getvalue().to_pybytes()

  def _records(self, body: bytes) -> list[Any]:
    try:
      values = json.loads(body)
    except (ValueError, RecursionError) as error:
      raise RefusedError(422, f"The body is not JSON ({reason_of(error)}); {WANTED}.") from error
    values = values.get("records") if isinstance(values, dict) else None
    if not isinstance(values, list):
      raise RefusedError(422, f"The body holds no list of records; {WANTED}.")
    self._check_number(len(values))
    return values

  def _table(self, body: bytes) -> pa.Table:
    batches, records = [], 0
    try:
      with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        for batch in reader:
          records += batch.num_rows
          self._check_number(records)
          batch.validate(full=True)  # or what is damaged would be found where it is read
          batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
        return table.rename_columns(table.column_names)  # or names that are no text pass
    except (pa.ArrowException, OSError, ValueError) as error:
      raise RefusedError(
        422, f"The body is no stream of Arrow IPC ({reason_of(error)}); write it with pyarrow.ipc."
      ) from error

  def _check_number(self, records: int) -> None:
    if records > self.most_records:
      raise RefusedError(
        413,
        f"The request has more than {self.most_records:,} records; send them in several requests.",
      )


def array_of(values: list[Any]) -> np.ndarray:
  """Lists of numbers as an array; null is NaN.

  Raises:
    ValueError: the lists differ in length, or hold something that is no number.
  """
  if any(isinstance(value, dict) for value in values):
    raise ValueError("Some records are objects and others are not; send all in one way.")
  try:
    x = np.asarray(values)
  except ValueError as error:
    raise ValueError("The records are lists of different lengths; give all one shape.") from error
  if x.dtype == object and all(isinstance(v, (int, float)) or v is None for v in x.flat):
    try:
      x = np.asarray(values, np.float64)
    except OverflowError as error:
      raise ValueError("The records hold a whole number that is too large.") from error
  if x.dtype.kind not in "buif":
    raise ValueError("The records hold something that is no number; send lists of numbers.")
  return x
