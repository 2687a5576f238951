"""What a service says of itself to Prometheus."""

from collections.abc import Callable

import numpy as np
import prometheus_client as prometheus

P_VALUES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, *(0.1 * i for i in range(1, 11)))
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
RECORDS = tuple(4**i for i in range(8))


class Measures:
  """Counters and histograms of one service.

  Args:
    waiting: gives the number of records that wait.
    drift: gives the decimal logarithm of the monitor's capital, and whether it has raised its
      alarm; None where there is no monitor.

  Attributes:
    records: by what was said of them: typical, anomalous, or bad, where nothing could be.
    requests: that were answered, by the form of their records.
    refusals: by status.
    repeated: requests that got the answer of another with their key.
    p_value: of records, where the detector is calibrated.
    seconds: from a request's first byte to its answer.
    calls: records scored in one call.
  """

  def __init__(
    self, waiting: Callable[[], float], drift: Callable[[], tuple[float, float]] | None = None
  ):
    self._registry = registry = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=registry)
    self.records = prometheus.Counter(
      "detector_records", "Records by decision.", ["decision"], registry=registry
    )
    self.requests = prometheus.Counter(
      "detector_requests", "Answered requests by form.", ["form"], registry=registry
    )
    self.refusals = prometheus.Counter(
      "detector_refusals", "Refused requests by status.", ["status"], registry=registry
    )
    self.repeated = prometheus.Counter(
      "detector_repeated_requests", "Requests answered from memory.", registry=registry
    )
    self.p_value = prometheus.Histogram(
      "detector_p_value", "p-values of records.", buckets=P_VALUES, registry=registry
    )
    self.seconds = prometheus.Histogram(
      "detector_request_seconds", "From request to answer.", buckets=SECONDS, registry=registry
    )
    self.calls = prometheus.Histogram(
      "detector_call_records", "Records scored in one call.", buckets=RECORDS, registry=registry
    )
    gauges = {"detector_waiting_records": ("Records that wait.", waiting)}
    if drift is not None:
      gauges |= {
        "detector_drift_log10_martingale": ("Evidence of drift.", lambda: drift()[0]),
        "detector_drift_alarm": ("1 once the drift alarm is raised.", lambda: drift()[1]),
      }
    for name, (text, value) in gauges.items():
      prometheus.Gauge(name, text, registry=registry).set_function(value)
    for decision in ("typical", "anomalous", "bad"):
      self.records.labels(decision)  # from the start, at 0

  def see(self, decisions: np.ndarray, p_values: np.ndarray | None) -> None:
    """Counts records ``[n]`` that were scored in one call."""
    anomalous = int(decisions.sum())
    self.records.labels("anomalous").inc(anomalous)
    self.records.labels("typical").inc(len(decisions) - anomalous)
    self.calls.observe(len(decisions))
    for value in () if p_values is None else p_values.tolist():
      self.p_value.observe(value)

  def text(self) -> bytes:
    """All of them, as Prometheus reads them."""
    return prometheus.generate_latest(self._registry)
