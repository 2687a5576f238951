"""The figure of a watched stream."""

from matplotlib.figure import Figure
import numpy as np

from launch.reporting.figures import ANOMALOUS, NEUTRAL, TYPICAL


def drift(
  scores: np.ndarray,
  log10_martingale: np.ndarray,
  *,
  threshold: float,
  false_alarm_rate: float,
  change: int | None = None,
  alarm: int | None = None,
  note: str = "drift begins",
) -> Figure:
  """Scores of a stream above the evidence for drift, over the number of the record from 1.

  The martingale is drawn up to the fourth power of what raises the alarm.

  Args:
    scores: ``[n]`` in the order of the stream; higher = more anomalous.
    log10_martingale: ``[n]``, decimal logarithms.
    threshold: of the decision; records with a score above are drawn in red.
    false_alarm_rate: of the monitor, whose alarm is drawn at its inverse.
    change: place from 0 of the first record that is no longer typical, where that is known.
    alarm: place from 0 at which the alarm was raised, None where it was not.
    note: what begins at ``change``.
  """
  figure = Figure(figsize=(6.8, 4.6), layout="constrained")
  top, bottom = figure.subplots(2, sharex=True)
  places = np.arange(1, len(scores) + 1)
  flagged = scores > threshold
  for rows, colour, name in ((~flagged, TYPICAL, "typical"), (flagged, ANOMALOUS, "anomalous")):
    top.scatter(places[rows], scores[rows], s=5, color=colour, lw=0, label=f"decided {name}")
  top.axhline(threshold, color="black", lw=1.0, ls="--", label=f"threshold {threshold:.3g}")
  limit = -np.log10(false_alarm_rate)
  bottom.plot(places, log10_martingale, color=TYPICAL, lw=1.5, label="martingale")
  label = f"alarm, false-alarm rate {100 * false_alarm_rate:g} %"
  bottom.axhline(limit, color="black", lw=1.0, ls="--", label=label)
  for axes in (top, bottom):
    axes.spines[["top", "right"]].set_visible(False)
    if change is not None:
      axes.axvline(change + 1, color=NEUTRAL, lw=1.0, ls=":")
  if change is not None:
    top.annotate(
      note,
      (change + 1, 0.6),
      (-6, 0),
      xycoords=("data", "axes fraction"),
      ha="right",
      textcoords="offset points",
      fontsize=8,
      color=NEUTRAL,
      va="center",
    )
  if alarm is not None:
    height = float(log10_martingale[alarm])
    bottom.plot([alarm + 1], [height], marker="o", ms=6, color=ANOMALOUS, ls="")
    bottom.annotate(
      f"alarm at record {alarm + 1:,}",
      (alarm + 1, height),
      (7, -4),
      va="top",
      textcoords="offset points",
      fontsize=8,
      color=ANOMALOUS,
    )
  lowest, highest = float(log10_martingale.min()), float(log10_martingale.max())
  bottom.set_ylim(min(lowest, 0.0) - 0.25 * limit, min(max(highest, limit), 4.0 * limit) + 0.1)
  top.set_ylabel("score", fontsize=9)
  bottom.set_ylabel("martingale, log10", fontsize=9)
  bottom.set_xlabel("record of the stream", fontsize=9)
  for axes in (top, bottom):
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
  return figure
