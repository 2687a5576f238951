"""Scores records over HTTP and watches them for drift.

  python -m launch.serve --detector=detector/

POST /score takes {"records": [{"column": value, ...}, ...]} or a stream of Arrow IPC and answers in
the same form: score (higher = more anomalous), p_value where the detector is calibrated, and
decision (1 = anomalous). GET /health, /schema, and /metrics for Prometheus. Requests that arrive
together are scored in one call. After SIGTERM or Ctrl-C those that came are answered, and the exit
code is 0. Needs the extra serve.
"""

import dataclasses
import pathlib
import sys
from typing import Any

from absl import flags

from detector_jax.scorer import ON_BAD_ROW
from launch import flags as common
from launch import watching

_DETECTOR = flags.DEFINE_string("detector", "", "The folder of a saved detector.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Interface to listen on; 0.0.0.0 for all.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0: one that is free.", 0, 65535)
_KEEP = flags.DEFINE_list("keep", [], "Columns of the records that their scores begin with.")
_ON_BAD_ROW = flags.DEFINE_enum(
  "on_bad_row",
  "fail",
  ON_BAD_ROW,
  "A record that cannot be scored: refuse its request, leave it out (keep a column that says which "
  "are left), or leave its scores empty.",
)
_EXPLAIN = flags.DEFINE_bool("explain", False, "Give reasons to requests with ?explain=true.")
_FALSE_ALARM_RATE = flags.DEFINE_float(
  "false_alarm_rate", None, "Probability of ever raising a false drift alarm; default 0.01."
)
_STATE = flags.DEFINE_string("state", "", "JSON file: the drift alarm goes on where it was left.")
flags.DEFINE_integer("max_batch", 0, "Records in one call; 0: the detector's.")
flags.DEFINE_float(
  "max_wait_ms", 2.0, "Milliseconds that a request waits for others to be scored with it."
)
flags.DEFINE_integer("max_records", 10_000, "Records in one request.")
flags.DEFINE_float("max_mb", 16.0, "MiB of one request.")
flags.DEFINE_integer("max_waiting", 50_000, "Records that wait; others get 503.")
flags.DEFINE_integer(
  "max_requests", 256, "Requests that are read or answered at a time; others get 503."
)
flags.DEFINE_float(
  "remembered_mb", 64.0, "MiB of answers kept for requests that come again with their key."
)


def main() -> None:
  """Answers requests until it is asked to stop."""
  common.require(detector=_DETECTOR.value)
  try:
    from launch.serving import server, service
  except ImportError as error:
    raise ValueError(
      f"launch.serve needs {error.name}, which is not installed: pip install -e '.[serve]'."
    ) from error
  fields = [field.name for field in dataclasses.fields(service.Limits)]
  values: dict[str, Any] = {name: flags.FLAGS[name].value for name in fields}
  limits = service.Limits(**values)

  def make() -> service.Service:
    return service.Service(
      _DETECTOR.value,
      limits,
      keep=_KEEP.value,
      on_bad_row=_ON_BAD_ROW.value,
      explain=_EXPLAIN.value,
      false_alarm_rate=_FALSE_ALARM_RATE.value,
      state=pathlib.Path(_STATE.value).expanduser() if _STATE.value else None,
    )

  served = server.serve(
    make, _HOST.value, _PORT.value, lambda address: print(f"Serving on {address}", flush=True)
  )
  tally = served.tally
  alarm = "" if served.watcher is None else f"; {watching.alarm_in_words(tally, 'record')}"
  print(
    f"{tally.records} records, {tally.anomalous} anomalous, {tally.bad} bad{alarm}.",
    file=sys.stderr,
  )


if __name__ == "__main__":
  common.run(main)
