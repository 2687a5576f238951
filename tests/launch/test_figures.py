"""Figures: what is drawn is what was given."""

import warnings

import numpy as np
import pytest

from detector_jax import metrics
from launch.reporting import figures


def of_layers(number, sources, rng, scale=1.0):
  typical = np.exp(rng.normal(size=(400, number))) * scale
  others = {name: np.exp(rng.normal(1.0, size=(300, number))) * scale for name in sources}
  thresholds = [(0.1 * scale, 8.0 * scale)] * number
  return [f"layer {i}" for i in range(number)], typical, others, thresholds


def panels_of(figure):
  return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize("number", [1, 3, 7, 8, 11])
def test_layer_histograms_have_a_panel_for_every_layer(number, rng):
  layers, typical, others, thresholds = of_layers(number, ["mnist", "svhn_cropped"], rng)
  figure = figures.layer_histograms(layers, typical, others, thresholds)
  figure.canvas.draw()
  panels = panels_of(figure)
  assert [axes.get_title(loc="left") for axes in panels] == layers
  legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()] + figure.legends
  (legend,) = legends
  assert [text.get_text() for text in legend.get_texts()] == [
    "typical (400)",
    "mnist (300)",
    "svhn_cropped (300)",
    "thresholds",
  ]
  for axes, threshold in zip(panels, thresholds, strict=True):
    assert axes.get_xscale() == "log"
    assert [line.get_xdata()[0] for line in axes.lines] == list(threshold)
    assert axes.get_xlim()[0] < threshold[0]
    assert axes.get_xlim()[1] > threshold[1]


def test_layer_histograms_are_densities_per_decade(rng):
  figure = figures.layer_histograms(*of_layers(2, ["mnist"], rng))
  for axes in panels_of(figure):
    for patch in axes.patches:
      density, edges, _ = patch.get_data()
      assert np.sum(density * np.diff(np.log10(edges))) == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_layer_histograms_have_ticks_at_any_scale(scale, rng):
  layers, typical, _, thresholds = of_layers(4, ["mnist"], rng, scale)
  narrow = 1.0 + 0.02 * typical / scale
  for errors, limits in ((typical, thresholds), (narrow * scale, [(scale, 1.1 * scale)] * 4)):
    figure = figures.layer_histograms(layers, errors, {"mnist": errors}, limits)
    for axes in panels_of(figure):
      low, high = axes.get_xlim()
      ticks = axes.get_xticks()
      assert 2 <= np.sum((ticks >= low) & (ticks <= high)) <= 6


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_layer_histograms_stand_errors_that_are_all_the_same(value):
  errors = np.full((50, 1), value)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    figure = figures.layer_histograms(["dead"], errors, {"mnist": errors}, [(0.0, np.inf)])
    figure.canvas.draw()
  (axes,) = panels_of(figure)
  assert not axes.lines
  low, high = axes.get_xlim()
  assert low < (value or 1.0) < high


def test_lines_past_the_last_colour_are_told_apart():
  series = {str(i): ([1, 2], [i, i], [0.0, 0.0]) for i in range(8)}
  figure = figures.lines_with_spread(series, "epoch", "loss")
  (axes,) = figure.axes
  styles = {(bar.lines[0].get_color(), bar.lines[0].get_linestyle()) for bar in axes.containers}
  assert len(styles) == 8


def test_the_area_below_the_precision_recall_curve_is_average_precision(rng):
  labels = np.repeat([0, 1], [300, 100])
  scores = np.round(rng.normal(size=400) + labels, 1)  # with ties
  figure = figures.precision_recall_curve(labels, scores, 1.0)
  (axes,) = figure.axes
  curve, chance, point = axes.lines
  recall, precision = curve.get_data()
  assert curve.get_drawstyle() == "steps-pre"
  area = np.sum(np.diff(recall) * precision[1:])
  assert area == pytest.approx(metrics.average_precision(labels, scores))
  assert set(chance.get_ydata()) == {0.25}
  flagged = scores > 1.0
  assert point.get_xdata()[0] == np.mean(flagged[labels == 1])
  assert point.get_ydata()[0] == np.mean(labels[flagged])


def test_a_threshold_above_all_scores_has_no_point_on_the_curve(rng):
  figure = figures.precision_recall_curve(np.array([0, 1, 1]), np.array([0.0, 1.0, 2.0]), 5.0)
  assert len(figure.axes[0].lines) == 2


def test_score_histograms_are_of_every_source_with_the_threshold(rng):
  scores, labels = rng.normal(size=300), np.repeat([0, 1], [100, 200])
  sources = np.repeat(["typical", "rotated", "noisy"], [100, 150, 50])
  figure = figures.score_histogram(scores, labels, 0.5, sources)
  (axes,) = figure.axes
  assert [text.get_text() for text in axes.get_legend().get_texts()] == [
    "typical (100)",
    "rotated (150)",
    "noisy (50)",
    "threshold 0.5",
  ]
  (line,) = axes.lines
  assert set(line.get_xdata()) == {0.5}


def test_a_threshold_beyond_all_scores_is_drawn(rng):
  figure = figures.score_histogram(rng.normal(size=50), np.repeat([0, 1], 25), 40.0)
  (axes,) = figure.axes
  assert axes.get_xlim()[1] > 40.0
  assert [text.get_text() for text in axes.get_legend().get_texts()] == [
    "typical (25)",
    "anomalous (25)",
    "threshold 40",
  ]


def test_bars_of_percentages_end_at_a_hundred():
  bars = {"one": ([99.0, 100.0], [0.5, 0.0])}
  assert figures.grouped_bars(["a", "b"], bars, "AUROC, %", 90.0).axes[0].get_ylim() == (90, 100)
  low = figures.grouped_bars(["a"], {"one": ([60.0], [1.0])}, "AUROC, %", 50.0)
  assert 61 <= low.axes[0].get_ylim()[1] < 70
