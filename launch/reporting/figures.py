"""Figures; each function returns a matplotlib Figure and draws on nothing global."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import itertools
from typing import Any

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from sklearn import metrics as sk

TYPICAL, ANOMALOUS, NEUTRAL = "#2a6fb0", "#c8452f", "#555555"
COLOURS = ("#2a6fb0", "#c8452f", "#e0a020", "#4c9a54", "#8a63a8", "#7f7f7f")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
  figure = Figure(figsize=(width, height), layout="constrained")
  axes = figure.subplots()
  axes.spines[["top", "right"]].set_visible(False)
  return figure, axes


def roc_curves(
  curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], near: float = 1.0
) -> Figure:
  """ROC curves, one per method: the mean over its test sets, vertically averaged.

  Args:
    curves: name -> test sets, each ``(labels [n], scores [n])``; 1 and high = anomalous.
    near: largest false-positive rate that is drawn.
  """
  figure, axes = _axes(5.2, 4.4)
  grid = np.linspace(0.0, near, 501)
  for (name, tests), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
    rates = []
    for labels, scores in tests:
      false, true, _ = sk.roc_curve(labels, scores)
      rates.append(np.interp(grid, false, true))
    mean = np.concatenate([[0.0], np.mean(rates, axis=0)])
    axes.plot(np.concatenate([[0.0], grid]), mean, label=name, color=colour, lw=1.8)
  axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8, ls="--")
  axes.set(
    xlabel="false-positive rate (typical records flagged)",
    ylabel="true-positive rate (anomalies found)",
    xlim=(-0.01 * near, near),
    ylim=(0.0, 1.01),
  )
  axes.legend(frameon=False, loc="lower right", fontsize=9)
  return figure


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Figure:
  """Precision of what is flagged over the share of anomalies found, at every threshold.

  The steps are those of average precision: the area below them is ``average_precision``. The
  dashed line is the precision of chance.

  Args:
    labels: ``[n]``, 1 = anomalous.
    scores: ``[n]``, high = anomalous.
    threshold: whose point is marked, where it flags anything.
  """
  figure, axes = _axes(5.2, 4.4)
  precision, recall, _ = sk.precision_recall_curve(labels, scores)
  axes.step(recall[::-1], precision[::-1], where="pre", color=COLOURS[0], lw=1.8)
  share = float(np.mean(labels))
  axes.axhline(share, color="#bbbbbb", lw=0.8, ls="--")
  flagged = scores > np.float32(threshold)
  if flagged.any():
    axes.plot(
      [flagged[labels == 1].mean()],
      [np.mean(labels[flagged])],
      "o",
      color="black",
      ms=6,
      label=f"threshold {threshold:.3g}",
      clip_on=False,
    )
    axes.legend(frameon=False, loc="lower left", fontsize=9)
  axes.set(
    xlabel="recall (anomalies found)",
    ylabel="precision (anomalies among the flagged)",
    xlim=(0.0, 1.01),
    ylim=(0.0, 1.01),
  )
  return figure


def score_histogram(
  scores: np.ndarray,
  labels: np.ndarray | None,
  threshold: float,
  sources: np.ndarray | None = None,
) -> Figure:
  """Histogram of scores with the threshold.

  Args:
    scores: ``[n]``.
    labels: ``[n]`` 1 = anomalous, or None where there are none.
    threshold: drawn as a line.
    sources: str ``[n]``, where the anomalies of each are to be drawn by themselves.
  """
  figure, axes = _axes(5.9, 3.6)
  low, high = np.percentile(scores, [0.2, 99.8])
  bins = np.linspace(min(low, threshold), max(high, threshold), 60).tolist()
  clipped = np.clip(scores, bins[0], bins[-1])
  if labels is None:
    axes.hist(clipped, bins, color=NEUTRAL, label="records")
  else:
    typical = clipped[labels == 0]
    label = f"typical ({len(typical):,})"
    if len(typical):
      axes.hist(typical, bins, color=TYPICAL, alpha=0.6, density=True, label=label)
    _anomalous_histograms(axes, clipped, labels, sources, bins)
  axes.axvline(threshold, color="black", lw=1.0, ls="--", label=f"threshold {threshold:.3g}")
  axes.set(
    xlabel="score (higher = more anomalous)", ylabel="records" if labels is None else "density"
  )
  axes.legend(frameon=False, fontsize=9)
  return figure


def _anomalous_histograms(
  axes: Axes,
  scores: np.ndarray,
  labels: np.ndarray,
  sources: np.ndarray | None,
  bins: list[float],
) -> None:
  if not (labels == 1).any():
    return
  if sources is None:
    part = scores[labels == 1]
    label = f"anomalous ({len(part):,})"
    axes.hist(part, bins, color=ANOMALOUS, alpha=0.6, density=True, label=label)
    return
  for place, source in enumerate(dict.fromkeys(sources[labels == 1].tolist()), 1):
    part = scores[(labels == 1) & (sources == source)]
    colour, dash = COLOURS[place % len(COLOURS)], ("-", ":")[place // len(COLOURS) % 2]
    style: Any = {"histtype": "step", "color": colour, "ls": dash, "lw": 1.4}
    axes.hist(part, bins, density=True, label=f"{source} ({len(part):,})", **style)


def layer_histograms(
  layers: Sequence[str],
  errors_typical: np.ndarray,
  errors_by_source: Mapping[str, np.ndarray],
  thresholds: Sequence[tuple[float, float]],
) -> Figure:
  """One small histogram of errors per layer, on a logarithmic axis.

  Args:
    layers: ``L`` names.
    errors_typical: ``[n, L]`` errors of typical records, >= 0; 0 is drawn at the left end.
    errors_by_source: name -> ``[m, L]`` errors of that source's anomalies.
    thresholds: ``(low, high)`` per layer, dashed; one that is not finite or not above 0 is left
      out.
  """
  columns = min(4, len(layers))
  rows = -(-len(layers) // columns)
  spare = rows * columns > len(layers)
  figure = Figure(
    figsize=(2.5 * columns, 1.75 * rows + (0.1 if spare else 0.5)), layout="constrained"
  )
  panels = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in panels[len(layers) :]:
    axes.set_axis_off()
  for place, axes in enumerate(panels[: len(layers)]):
    groups = {"typical": errors_typical[:, place]}
    groups |= {name: errors[:, place] for name, errors in errors_by_source.items()}
    _layer_panel(axes, layers[place], groups, thresholds[place])
  handles, labels = panels[0].get_legend_handles_labels()
  if spare:
    panels[len(layers)].legend(handles, labels, frameon=False, fontsize=9, loc="center left")
  else:
    figure.legend(
      handles, labels, frameon=False, fontsize=9, ncols=columns, loc="outside upper center"
    )
  figure.supxlabel("error, logarithmic scale", fontsize=9)
  figure.supylabel("density per decade", fontsize=9)
  return figure


def _layer_panel(
  axes: Axes, name: str, groups: Mapping[str, np.ndarray], threshold: tuple[float, float]
) -> None:
  lines = [value for value in threshold if np.isfinite(value) and value > 0]
  positive = [errors[errors > 0] for errors in groups.values()]
  floor = min(np.concatenate([*positive, lines]), default=1.0)
  logs = {key: np.log10(np.maximum(errors, floor)) for key, errors in groups.items()}
  ends = [np.percentile(each, (0.2, 99.8)) for each in logs.values()] + [np.log10(lines)]
  low, high = float(np.min(np.concatenate(ends))), float(np.max(np.concatenate(ends)))
  margin = max(0.04 * (high - low), 0.02)
  bins = np.linspace(low - margin, high + margin, 46)
  for place, (key, each) in enumerate(logs.items()):
    counts, _ = np.histogram(np.clip(each, bins[0], bins[-1]), bins)
    density = counts / max(len(each), 1) / (bins[1] - bins[0])
    colour, dash = COLOURS[place % len(COLOURS)], ("-", ":")[place // len(COLOURS) % 2]
    label = f"{key} ({len(each):,})"
    if place == 0:
      axes.stairs(density, 10**bins, fill=True, color=colour, alpha=0.4, lw=0, label=label)
      axes.stairs(density, 10**bins, color=colour, lw=0.8)
    else:
      axes.stairs(density, 10**bins, color=colour, lw=1.4, ls=dash, label=label)
  for place, value in enumerate(lines):
    axes.axvline(value, color="black", lw=0.9, ls="--", label="" if place else "thresholds")
  axes.set_xscale("log")
  axes.set(xlim=(10 ** bins[0], 10 ** bins[-1]), yticks=[])
  _log_ticks(axes, bins[0], bins[-1])
  axes.spines[["top", "right", "left"]].set_visible(False)
  axes.tick_params(labelsize=8)
  axes.set_title(name, fontsize=9, loc="left", pad=3)


def _log_ticks(axes: Axes, low: float, high: float) -> None:
  """Up to five ticks between ``10**low`` and ``10**high``, as round as the range allows."""
  ladder = np.arange(np.floor(low), np.ceil(high) + 1)
  ticks = 10.0 ** ladder[(ladder >= low) & (ladder <= high)]
  mathtext = len(ticks) >= 2
  if mathtext:
    ticks = ticks[:: -(-len(ticks) // 4)]
  else:
    ticks = np.multiply.outer(10.0**ladder, [1.0, 2.0, 5.0]).ravel()
    if np.sum((ticks >= 10**low) & (ticks <= 10**high)) < 2:
      ticks = np.asarray(ticker.MaxNLocator(3).tick_values(10**low, 10**high))
    ticks = ticks[(ticks >= 10**low) & (ticks <= 10**high)]
  axes.xaxis.set_major_locator(ticker.FixedLocator(ticks.tolist()))
  axes.xaxis.set_major_formatter(
    ticker.LogFormatterMathtext() if mathtext else ticker.FuncFormatter(lambda x, _: f"{x:.4g}")
  )
  axes.xaxis.set_minor_locator(ticker.NullLocator())


def contact_sheet(rows: Sequence[tuple[str, np.ndarray, Iterable[str]]], title: str = "") -> Figure:
  """Rows of images with a caption under each.

  Args:
    rows: ``(name, images [k, height, width] or [k, height, width, 3], captions)``.
    title: above the sheet.
  """
  columns = max(len(images) for _, images, _ in rows)
  figure = Figure(figsize=(0.76 * columns + 1.2, 0.98 * len(rows) + 0.4), layout="constrained")
  figure.suptitle(title, fontsize=10)
  grid = figure.subplots(len(rows), columns, squeeze=False)
  for (name, images, captions), line in zip(rows, grid, strict=True):
    for axes in line:
      axes.set(xticks=[], yticks=[])
      axes.spines[:].set_visible(False)
    line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    for axes, image, caption in zip(line, images, captions, strict=False):
      axes.imshow(image, cmap="gray" if image.ndim == 2 else None, interpolation="nearest")
      axes.set_xlabel(caption, fontsize=8, labelpad=1)
  return figure


def error_maps(
  names: Sequence[str],
  images: np.ndarray,
  maps: Mapping[str, np.ndarray],
  scales: Mapping[str, float],
  captions: Mapping[str, Sequence[str]],
) -> Figure:
  """Where in each image each layer objects: its error by place, in red over the image.

  Args:
    names: of the images.
    images: ``[k, height, width]`` or ``[k, height, width, 3]``.
    maps: layer -> ``[k, rows, columns]``.
    scales: layer -> the error that is drawn in full red.
    captions: layer -> a caption per image.
  """
  columns = 1 + len(maps)
  figure = Figure(figsize=(1.15 * columns + 1.2, 1.4 * len(images) + 0.3), layout="constrained")
  grid = figure.subplots(len(images), columns, squeeze=False)
  extent = (-0.5, images.shape[2] - 0.5, images.shape[1] - 0.5, -0.5)
  for row, line in enumerate(grid):
    for axes, layer in zip(line, ("", *maps), strict=True):
      axes.set(xticks=[], yticks=[])
      axes.spines[:].set_visible(False)
      axes.imshow(images[row], cmap="gray" if images.ndim == 3 else None, alpha=0.75)
      if row == 0:
        axes.set_title(layer or "image", fontsize=8)
      if layer:
        strength = np.clip(maps[layer][row] / scales[layer], 0.0, 1.0)
        red = np.ones_like(strength)
        axes.imshow(
          red,
          cmap="Reds_r",
          vmin=1.0,
          vmax=3.0,
          alpha=0.85 * strength,
          extent=extent,
          interpolation="nearest",
        )
        axes.set_xlabel(captions[layer][row], fontsize=8, labelpad=1)
    line[0].set_ylabel(names[row], fontsize=8, rotation=0, ha="right", va="center")
  return figure


def decision_boundary(
  panels: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]],
  points: np.ndarray,
  limits: tuple[float, float, float, float],
) -> Figure:
  """What each detector takes for typical in the plane, beside its training points.

  Three panels to a row.

  Args:
    panels: name -> (score function ``[n, 2] -> [n]``, threshold).
    points: ``[n, 2]`` training records, drawn in yellow.
    limits: x from, x to, y from, y to.
  """
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  figure = Figure(figsize=(3.6 * columns, 0.3 + 2.6 * rows), layout="constrained")
  xs, ys = np.linspace(*limits[:2], 320), np.linspace(*limits[2:], 200)
  grid = np.stack(np.meshgrid(xs, ys), axis=-1)
  places = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
  for axes in places[len(panels) :]:
    axes.set_axis_off()
  for axes, (name, (score, threshold)) in zip(places, panels.items(), strict=False):
    typical = score(grid.reshape(-1, 2)).reshape(grid.shape[:2]) <= threshold
    axes.contourf(xs, ys, typical, levels=[-0.5, 0.5, 1.5], colors=["#f2c3ba", "#b9d3ec"])
    axes.contour(xs, ys, typical, levels=[0.5], colors=["#444444"], linewidths=0.6)
    axes.scatter(points[:, 0], points[:, 1], s=1.2, color="#e0a020")
    axes.set_title(name, fontsize=10)
  return figure


def lines_with_spread(
  series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
  xlabel: str,
  ylabel: str,
) -> Figure:
  """Lines with error bars: name -> (x, mean, standard deviation).

  Earlier lines are wider, so that one that lies under another is seen. Deviations that are all 0
  are not drawn.
  """
  figure, axes = _axes(5.6, 3.6)
  for place, (name, (x, mean, std)) in enumerate(series.items()):
    width, colour = max(4.0 - 0.7 * place, 1.2), COLOURS[place % len(COLOURS)]
    dash = ("-", ":")[place // len(COLOURS) % 2]
    style: Any = {"color": colour, "marker": "o", "ms": 2.0 + 1.5 * width, "lw": width, "ls": dash}
    spread = std if any(std) else None
    axes.errorbar(x, mean, spread, label=name, capsize=2, elinewidth=1.0, **style)
  axes.set(xlabel=xlabel, ylabel=ylabel)
  if len(series) > 4:
    figure.set_figheight(4.2)
    figure.legend(frameon=False, fontsize=9, ncols=2, loc="outside lower center")
  else:
    axes.legend(frameon=False, fontsize=9)
  return figure


def grouped_bars(
  groups: Sequence[str],
  series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
  ylabel: str,
  bottom: float,
) -> Figure:
  """Grouped bars of percentages, with error bars: name -> (mean, standard deviation) per group."""
  figure, axes = _axes(max(5.6, 1.6 * len(groups) + 2.0), 3.6)
  width = 0.8 / len(series)
  for place, (name, (mean, std)) in enumerate(series.items()):
    x = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
    colour = COLOURS[place % len(COLOURS)]
    hatch = "///" if place >= len(COLOURS) else None
    style: Any = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
    axes.bar(x, mean, width * 0.92, yerr=std, label=name, error_kw={"lw": 0.8}, **style)
  top = min(axes.get_ylim()[1], 100.0)
  axes.set(xticks=np.arange(len(groups)), ylabel=ylabel, ylim=(bottom, top))
  axes.set_xticklabels(groups)
  figure.legend(frameon=False, fontsize=9, ncols=3, loc="outside lower center")
  return figure


def dots(rows: Sequence[str], series: Mapping[str, Sequence[float]], xlabel: str) -> Figure:
  """One row of dots for each name, one colour and marker for each series."""
  figure, axes = _axes(6.4, 0.8 + 0.26 * len(rows))
  places = np.arange(len(rows))
  for number, (name, values) in enumerate(series.items()):
    colour, marker = COLOURS[number % len(COLOURS)], "osD^vPX"[number % 7]
    size, order = (60, 3) if number == 0 else (28, 2)
    axes.scatter(
      values, places, size, colour, marker=marker, label=name, zorder=order, lw=0, alpha=0.9
    )
  axes.set(xlabel=xlabel, yticks=places, ylim=(len(rows) - 0.5, -0.5))
  axes.set_yticklabels(rows)
  axes.grid(axis="y", color="#e6e6e6", lw=0.8)
  axes.tick_params(axis="y", length=0)
  figure.legend(frameon=False, fontsize=9, ncols=3, loc="outside lower center")
  return figure
