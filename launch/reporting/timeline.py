"""Scores along a series: what was flagged when, and how many events were found."""

from typing import Any

from matplotlib.figure import Figure
import numpy as np


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
  """First and last place, each, of the stretches in which ``flags`` bool ``[n]`` holds."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
  return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def events(labels: np.ndarray, flagged: np.ndarray) -> dict[str, Any]:
  """Events found, and stretches of false alarms.

  Args:
    labels: ``[n]`` of windows in their order, 1 = anomalous; neighbours that are form one event.
    flagged: bool ``[n]``.

  Returns:
    ``events``, ``events_found`` (one flagged window is enough), ``false_alarms`` (stretches of
    flagged windows of which none is anomalous).
  """
  anomalous = labels == 1
  true = runs(anomalous)
  alarms = [run for run in runs(flagged) if not anomalous[run[0] : run[1] + 1].any()]
  found = sum(bool(flagged[first : last + 1].any()) for first, last in true)
  return {"events": len(true), "events_found": found, "false_alarms": len(alarms)}


def figure(scores: np.ndarray, labels: np.ndarray, threshold: float, step: int) -> Figure:
  """Scores over the first step of each window; anomalous stretches shaded, flagged windows dots.

  Args:
    scores: ``[n]`` of windows in their order.
    labels: ``[n]``, 1 = anomalous.
    threshold: of the decisions.
    step: between windows.
  """
  drawn = Figure(figsize=(8.0, 2.8), layout="constrained")
  axes = drawn.subplots()
  time, flagged = step * np.arange(len(scores)), scores > np.float32(threshold)
  for first, last in runs(labels == 1):
    axes.axvspan(time[first], time[last] + step, color="#e8a33d", alpha=0.35, lw=0)
  axes.plot(time, scores, color="#3465a4", lw=0.9)
  axes.plot(time[flagged], scores[flagged], ".", color="#b5322a", ms=5)
  axes.axhline(threshold, color="black", lw=0.9, ls="--")
  axes.set(xlabel="first step of the window", ylabel="score")
  axes.margins(x=0.01)
  return drawn
