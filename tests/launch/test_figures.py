"""Figures: what is drawn is what was given."""

import warnings

import numpy as np
import pytest

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
    "typical (400)", "mnist (300)", "svhn_cropped (300)", "thresholds",
  ]  # fmt: skip
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
