"""What each layer says of the test set, for a detector that tells layers apart."""

import numpy as np

import detector_jax
from detector_jax import metrics
from launch.data.splits import Splits
from launch.reporting import figures, report

GROUPS = "the sizes of activations, the class and the neighbours of a record"


def reported(detector: detector_jax.Detector, x: np.ndarray, *names: str) -> dict[str, np.ndarray]:
  """The named parts of ``Detector.report`` on records ``[n, ...]``, each ``[n, ...]``.

  Taken a few batches at a time: a whole report may hold a map of every layer for every record.
  """
  size = 4 * detector.batch_size
  parts = []
  for start in range(0, len(x), size):
    told = detector.report(x[start : start + size])
    parts.append([np.asarray(told[name]) for name in names])
  return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def add(
  page: report.Report, splits: Splits, scores: np.ndarray, detector: detector_jax.Detector
) -> None:
  """Adds the table of the layers, the histograms of their errors, and maps of some records.

  Args:
    page: to add to.
    splits: whose test records ``[n, ...]`` have labels.
    scores: ``[n]`` of these.
    detector: whose metadata name the layers.
  """
  x, labels = splits.labelled_test()
  told = reported(detector, x, "layer_error", "layer_low", "layer_high")
  errors, low, high = told["layer_error"], told["layer_low"], told["layer_high"]
  sources = np.full(len(x), "anomalous") if splits.sources is None else splits.sources
  groups = {"typical": labels == 0}
  for source in dict.fromkeys(sources[labels == 1].tolist()):
    groups[source] = (labels == 1) & (sources == source)
  page.heading("Layers")
  flagged = scores > np.float32(detector.threshold)
  grouped = bool(detector.metadata.get("groups"))
  _table(page, names_of(detector), errors, (low, high), groups, flagged, grouped)
  figure = figures.layer_histograms(
    names_of(detector),
    errors[labels == 0],
    {name: errors[rows] for name, rows in groups.items() if name != "typical"},
    list(zip(np.median(low, axis=0).tolist(), np.median(high, axis=0).tolist(), strict=True)),
  )
  caption = "Errors of the test set by layer; the dashed lines are the layer's two thresholds" + (
    ", in the median over records: each has those of its class." if grouped else "."
  )
  page.figure("layers", figure, caption)
  if splits.image_shape is not None:
    _maps(page, x.reshape(-1, *splits.image_shape), x, scores, groups, detector)


def names_of(detector: detector_jax.Detector, kind: str = "layers") -> list[str]:
  """Names of the layers, or "groups", that ``Detector.report`` tells apart; none where it has none.

  Raises:
    ValueError: the metadata of a folder hold something else.
  """
  names = detector.metadata.get(kind, [])
  if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
    raise ValueError(f"The {kind} in the detector's metadata are no names; save it again.")
  return names


def _table(
  page: report.Report,
  layers: list[str],
  errors: np.ndarray,
  limits: tuple[np.ndarray, np.ndarray],
  groups: dict[str, np.ndarray],
  flagged: np.ndarray,
  grouped: bool,
) -> None:
  low, high = limits
  anomalous = ~groups["typical"]
  rows: list[tuple[str, ...]] = []
  for place, name in enumerate(layers):
    error = errors[:, place]
    too_small = error < low[:, place]
    beyond = too_small | (error > high[:, place])
    rows.append(
      (
        name,
        f"{np.median(low[:, place]):.3g} to {np.median(high[:, place]):.3g}",
        *(f"{100 * beyond[of].mean():.1f} %" for of in groups.values()),
        f"{100 * too_small[anomalous].mean():.1f} %",
        f"{metrics.auroc(anomalous.astype(int), error):.4f}",
      )
    )
  shares = (f"{100 * flagged[of].mean():.1f} %" for of in groups.values())
  rows.append(("all evidence" if grouped else "any layer", "", *shares, "", ""))
  head = ("layer", "typical errors", *groups, "too small", "AUROC of the error")
  page.table(head, rows, total=True)
  page.text(
    "Shares of the records of each set to which a layer objects: its error lies outside the range "
    "of typical errors. Too small: the share of all anomalies whose error is below it. "
    + (
      "A layer's range is that of the predicted class, at the rate of the whole rule, which joins "
      f"the layers to other evidence ({GROUPS})."
      if grouped
      else "The whole rule flags a record to which any layer objects."
    )
  )


def _maps(
  page: report.Report,
  images: np.ndarray,
  x: np.ndarray,
  scores: np.ndarray,
  groups: dict[str, np.ndarray],
  detector: detector_jax.Detector,
) -> None:
  """Where layers object, for the middle record of each group."""
  chosen = []
  for of in groups.values():
    rows = np.flatnonzero(of)
    chosen.append(int(rows[np.argsort(scores[rows])[len(rows) // 2]]))
  told = detector.report(x[chosen])
  layers = names_of(detector)
  found = {name: told[f"map/{name}"] for name in layers if f"map/{name}" in told}
  maps = {name: values for name, values in found.items() if values.ndim == 3}
  if not maps:
    return
  captions = {
    name: [f"error {e:.2g}\np {p:.1g}" for e, p in zip(errors, values, strict=True)]
    for name, errors, values in zip(
      layers, told["layer_error"].T, told["layer_p_value"].T, strict=True
    )
  }
  figure = figures.error_maps(
    list(groups),
    images[chosen],
    maps,
    {n: 3.0 * float(told["layer_high"][0, layers.index(n)]) for n in maps},
    captions,
  )
  caption = (
    "The record of middle score from each source, and where each layer objects; full red is three "
    "times the layer's upper threshold."
  )
  page.figure("error_maps", figure, caption, least=report.PIXELS_PER_INCH)
