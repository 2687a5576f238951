"""The demo, in two acts on scikit-learn's handwritten digits. Nothing is downloaded.

DROCC against four baselines on the same split: each digit in turn is typical; half of its images
train, everything else tests. Then NeuralFP: a classifier of all ten digits is trained and
fingerprinted, and rotated, inverted, noisy and blank images are out-of-distribution. Both end with
a table, figures and a report.
"""

from collections.abc import Sequence
import logging
import pathlib
import shutil
import time
from typing import Any

from absl import flags
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.baselines import BASELINES
from configs import neuralfp_digits
from detector_jax import Standardizer, metrics
from drocc_jax import DROCC
from launch import evaluation, run
from launch import flags as common
from launch.data import Splits, bundled
from launch.reporting import figures, progress, report

EPOCHS = 250  # about 500 steps, a third of the default, to keep the demo short
CONSTANT = "clip"  # a pixel that is always white in training may be black in a test image

_OUTPUT = flags.DEFINE_string(
  "output", "runs/demo", "Folder for figures and the report.", allow_override=True
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds per digit.", lower_bound=1)
_DIGITS = flags.DEFINE_list("digits", list("0123456789"), "Digits that are typical in turn.")


def score_all(splits: Splits, seed: int) -> dict[str, np.ndarray]:
  """Scores of the test set by every method, all trained on the same rows.

  Args:
    splits: one digit typical.
    seed: of every method that has one.
  """
  preprocessing = Standardizer.fit(splits.x_train, constant=CONSTANT)
  z_train = preprocessing.transform(splits.x_train)
  x_test, _ = splits.labelled_test()
  z_test = preprocessing.transform(x_test)
  model = DROCC(epochs=EPOCHS, constant=CONSTANT, calibration_size=0, random_state=seed)
  detector = model.fit(splits.x_train).detector_
  scores = {"DROCC": detector.score(x_test)}
  for name, make in BASELINES.items():
    scores[name] = make(seed).fit(z_train).score(z_test)
  return scores


def drocc(output: pathlib.Path, digits: list[int], num_seeds: int) -> pathlib.Path:
  """Trains everything and writes figures and report; returns the report's path."""
  results: dict[tuple[int, int], tuple[Splits, dict[str, np.ndarray]]] = {}
  start = time.perf_counter()
  with progress.bar("digits x seeds", len(digits) * num_seeds) as advance:
    for digit in digits:
      for seed in range(num_seeds):
        splits = bundled.digits(digit, seed)
        results[digit, seed] = splits, score_all(splits, seed)
        advance(1, f"typical digit {digit}, seed {seed}")
  seconds = time.perf_counter() - start
  methods = ["DROCC", *BASELINES]
  auroc = np.array(
    [
      [[_auroc(results[digit, seed], method) for method in methods] for seed in range(num_seeds)]
      for digit in digits
    ]
  )
  rows = [
    (f"digit {d}", *map("{:.4f}".format, a)) for d, a in zip(digits, auroc.mean(1), strict=True)
  ]
  means, spread = auroc.mean(axis=(0, 1)), auroc.mean(axis=0).std(axis=0)
  rows.append(("mean", *map("{:.4f}".format, means)))
  _print(methods, rows, num_seeds)
  page = report.Report("DROCC on handwritten digits", output)
  page.conclusion(conclusion(methods, means))
  page.text(
    f"Each digit in turn is typical: half of its images (about 90) train, its other half and all "
    f"images of other digits test. AUROC, mean over {num_seeds} seeds, last of {EPOCHS} epochs, "
    f"otherwise default settings. {seconds:.0f} s for all methods on this machine."
  )
  page.table(("typical", *methods), rows, total=True)
  page.text(
    "Standard deviation of the mean over seeds: "
    + ", ".join(f"{name} {value:.4f}" for name, value in zip(methods, spread, strict=True))
    + "."
  )
  _draw(page, digits, results, methods)
  return page.write()


def conclusion(methods: Sequence[str], auroc: np.ndarray) -> str:
  """One sentence of how the first method compares with the others.

  Args:
    methods: names.
    auroc: ``[methods]`` mean AUROC of each.
  """
  first, best = methods[0], methods[int(np.argmax(auroc))]
  sentence = f"{first} scores an anomaly above a typical image {100 * auroc[0]:.1f} % of the time, "
  if first == best:
    return sentence + f"the best of {len(methods)} methods."
  place = 1 + int((auroc > auroc[0]).sum())
  return sentence + f"place {place} of {len(methods)}; best is {best}, {100 * auroc.max():.1f} %."


def _auroc(result: Any, method: str) -> float:
  splits, scores = result
  return metrics.auroc(splits.labelled_test()[1], scores[method])


def _draw(
  page: report.Report, digits: list[int], results: dict[Any, Any], methods: list[str]
) -> None:
  curves = {
    method: [(splits.y_test, scores[method]) for splits, scores in results.values()]
    for method in methods
  }
  page.heading("ROC curves")
  page.figure("roc", figures.roc_curves(curves), "Mean over digits and seeds.")
  page.heading("Most and least anomalous test images, by DROCC")
  rows = []
  for digit in digits:
    splits, scores = results[digit, 0]
    order = np.argsort(scores["DROCC"])
    chosen = np.concatenate([order[:8], order[::-1][:8]])
    images = splits.x_test[chosen].reshape(-1, *splits.image_shape)
    captions = ["typical" if label == 0 else "anomaly" for label in splits.y_test[chosen]]
    rows.append((f"typical: {digit}", images, captions))
  sheet = figures.contact_sheet(rows)
  page.figure(
    "contact_sheet",
    sheet,
    "Seed 0. Left half of each row: least anomalous; right half: most anomalous. Captions give the "
    "true label.",
    least=report.PIXELS_PER_INCH,
  )


def _print(methods: list[str], rows: list[tuple[str, ...]], num_seeds: int) -> None:
  table = Table("typical", *methods, title=f"AUROC, mean of {num_seeds} seeds, last epoch")
  for row in rows:
    table.add_row(*row, style="bold" if row[0] == "mean" else None)
  Console().print(table)


def fingerprints(output: pathlib.Path) -> pathlib.Path:
  """Trains and evaluates NeuralFP through the launcher; returns the report's path."""
  start = time.perf_counter()
  if output.exists():
    shutil.rmtree(output)
  run.train(neuralfp_digits.get_config(), output)
  result = evaluation.evaluate(output)
  table = Table("out-of-distribution", "images", "AUROC", "found")
  for source, values in result["sources"].items():
    table.add_row(
      source, f"{values['records']:.0f}", f"{values['auroc']:.4f}", f"{values['flagged']:.1%}"
    )
  decision = result["decision"]
  table.caption = (
    f"found at a stated false-positive rate of {decision['stated_fpr']:.0%}; realised on "
    f"{result['labels']['typical']} typical test images: {decision['realised_fpr']:.1%}"
  )
  table.title = f"NeuralFP of a digit classifier, {time.perf_counter() - start:.0f} s"
  Console().print(table)
  return output / "report.html"


def main() -> None:
  """Runs both acts and prints where their results are."""
  logging.getLogger("detector_jax").setLevel(logging.ERROR)
  try:
    digits = [int(digit) for digit in _DIGITS.value]
  except ValueError:
    raise ValueError(f"--digits takes digits such as 0,1,8, got {_DIGITS.value}.") from None
  path = drocc(pathlib.Path(_OUTPUT.value), digits, _SEEDS.value)
  second = fingerprints(path.parent / "neuralfp")
  print(f"figures: {path.parent / 'contact_sheet.png'}, {path.parent / 'roc.png'}")
  print(f"report:  {path}")
  print(f"figures: {second.parent / 'layers.png'}, {second.parent / 'error_maps.png'}")
  print(f"report:  {second}")


if __name__ == "__main__":
  common.run(main)
