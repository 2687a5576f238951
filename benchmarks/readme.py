"""Numbers, tables and outputs of README and docs, as they are now.

  python -m benchmarks.readme

Three kinds of marker, all of them comments that no reader sees:

  9.7<!--= speed_thyroid records.0.ratio .1f -->
      the number before it: a file of benchmarks/results, a key in it, how to write it, and, where
      the unit is another one, a factor such as x1e-6. A key is steps between dots: a name, a place
      in a list, a name with dots in quotes, or [row=mean;method=DROCC], the one record that has
      these values. No line starts with a marker: Markdown would end the paragraph there.
  <!-- table: adbench --> ... <!-- /table -->
      one of ``TABLES``.
  a block of Python, and after it a block of text
      what the Python prints, of pages whose code runs: ``pages_that_run``.

The command writes all of them anew; ``--run=false`` leaves the code out. tests/test_readme.py
compares: numbers and tables exactly, outputs with the tolerance of ``snippets.differs``.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import re
from typing import Any

from absl import flags

from benchmarks import results_page, snippets
from launch import flags as common

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = results_page.RESULTS

NUMBER = re.compile(
  r"(?P<text>-?[\d.,]+)<!--= (?P<file>\S+) (?P<key>.+?) (?P<format>\S*[dfg])"
  r"(?: x(?P<factor>\S+))? -->"
)
TABLE = re.compile(r"<!-- table: (?P<name>\S+) -->\n(?P<body>.*?)<!-- /table -->", re.DOTALL)
STEP = re.compile(r'\[(?P<where>[^\]]*)\]|"(?P<quoted>[^"]*)"|(?P<name>[^.\["]+)')

_RUN = flags.DEFINE_bool("run", True, "Run the code blocks, too.")


@dataclasses.dataclass(frozen=True)
class Summary:
  """A table of chosen records: each cell is the one that has the values of its row and column.

  Attributes:
    file: in benchmarks/results, without ending.
    rows: first cell -> values of the record, such as ``{"method": "LOF"}``.
    columns: heading -> values of the record; "digits" after the point (1) and "field" (mean and
      deviation) say how it is written.
  """

  file: str
  rows: Mapping[str, Mapping[str, Any]]
  columns: Mapping[str, Mapping[str, Any]]

  def table(self, results: pathlib.Path = RESULTS) -> str:
    """The table in Markdown; a cell that has no record is empty.

    Raises:
      KeyError: several records fit one cell.
    """
    records = json.loads((results / f"{self.file}.json").read_text())["records"]
    lines = [
      results_page.line("", *self.columns),
      results_page.line(*["---"] * (1 + len(self.columns))),
    ]
    for title, row in self.rows.items():
      cells = [
        _cell(records, {"column": "last", **row, **column}) for column in self.columns.values()
      ]
      lines.append(results_page.line(title, *cells))
    return "\n".join(lines) + "\n"


def _cell(records: list[dict[str, Any]], wanted: dict[str, Any]) -> str:
  digits, field = wanted.pop("digits", 1), wanted.pop("field", None)
  fits = [r for r in records if all(r[name] == value for name, value in wanted.items())]
  if len(fits) > 1:
    raise KeyError(f"{len(fits)} records fit {wanted}")
  if not fits or field is None:
    return results_page.cell(fits[0] if fits else None, digits)
  return f"{fits[0][field]:.{digits}f}"


def _named(key: str, *names: str) -> dict[str, dict[str, str]]:
  """``{name: {key: name}}`` of names that are their own titles."""
  return {name: {key: name} for name in names}


TABLES = {
  "adbench": Summary(
    "adbench",
    {"DROCC()": {"method": "DROCC"}}
    | _named("method", "5 nearest neighbours", "LOF", "isolation forest", "OC-SVM"),
    {
      "all 19 sets": {"row": "mean", "metric": "auroc"},
      "sets that the default was chosen on": {"row": "mean, development", "metric": "auroc"},
      "the others": {"row": "mean, report", "metric": "auroc"},
    },
  ),
  "adbench-more": Summary(
    "adbench_more",
    {"DROCC()": {"method": "DROCC"}}
    | _named("method", "5 nearest neighbours", "LOF", "isolation forest", "OC-SVM"),
    {"23 further sets": {"row": "mean", "metric": "auroc"}},
  ),
  "adaptation": Summary(
    "adaptation",
    _named("row", "nothing changes", "slow drift", "jump", "5 % anomalies")
    | _named("row", "slow drift, 5 % anomalies", "edge, slow drift", "digits, slowly turned"),
    {
      name.removeprefix("adapt="): {"method": name, "metric": "false alarms"}
      for name in ("fixed threshold", "adapt=unflagged", "adapt=judged", "adapt=all")
    },
  ),
  "neuralfp": Summary(
    "neuralfp",
    {
      f"{model} model, {other}": {"row": f"{model} model, {other}"}
      for model, others in {
        "MNIST": ("Fashion-MNIST", "CIFAR-10, grey", "SVHN, grey subset"),
        "Fashion-MNIST": ("MNIST", "CIFAR-10, grey", "SVHN, grey subset"),
      }.items()
      for other in others
    },
    {
      "AUROC": {"metric": "auroc", "digits": 2},
      "paper": {"metric": "auroc", "digits": 2, "field": "paper"},
      "FPR at 95 % found": {"metric": "fpr_at_95tpr_anomaly_positive", "digits": 2},
      "found at a stated FPR of 1 %": {"metric": "recall_at_stated_1%_fpr"},
    },
  ),
}
_MODELS = {
  "MNIST": ("Fashion-MNIST", "CIFAR-10, grey"),
  "Fashion-MNIST": ("MNIST", "CIFAR-10, grey"),
  "CIFAR-10": ("MNIST", "Fashion-MNIST"),
}
_ROWS = {"mean of ten shifts": "ten shifts", "classes 4 and 9": "held-out classes"}
_METHODS = (
  *("NeuralFP", "NeuralFP, one-out", "Gram", "deep nearest neighbour", "relative Mahalanobis"),
  *("ViM", "Mahalanobis", "energy", "ReAct", "ODIN", "max softmax"),
)
TABLES["neuralfp-peers"] = Summary(
  "neuralfp_peers",
  _named("method", *_METHODS),
  {
    f"{model}: {title}": {"row": f"{model} model, {row}", "metric": "auroc", "field": "mean"}
    for model in _MODELS
    for row, title in _ROWS.items()
  }
  | {
    f"{model}: found at 1 %": {
      "row": f"{model} model, mean of ten shifts",
      "metric": "recall_at_stated_1%_fpr",
      "field": "mean",
    }
    for model in _MODELS
  },
)
TABLES["neuralfp-peers-shifts"] = Summary(
  "neuralfp_peers",
  {
    f"{model} model, {shift}": {"row": f"{model} model, {shift}", "metric": "auroc"}
    for model, others in _MODELS.items()
    for shift in (
      *(*others, "SVHN, grey subset", "gaussian noise 2", "blur 2", "rotation 2"),
      *("contrast 2", "occlusion 2", "FGSM 0.1", "PGD 0.1"),
    )
  },
  {name: {"method": name, "field": "mean"} for name in _METHODS[:5]},
)
TABLES |= {
  f"contamination-{half}": Summary(
    "contamination",
    {"DROCC()": {"method": "DROCC"}}
    | _named("method", *(f"DROCC, contamination={c}" for c in ("the share", "0.1", "auto")))
    | _named("method", "5 nearest neighbours", "isolation forest", "OC-SVM"),
    {
      f"{title}{share} %": {
        "row": f"mean, {half}, {share}%",
        "metric": f"mean {metric}",
        "digits": digits,
        "field": "mean",
      }
      for title, metric, digits, shares in (
        ("AUROC, ", "auroc", 1, (0, 2, 5, 10)),
        ("found, ", "recall", 0, (0, 2, 5, 10)),
        ("false alarms, ", "false alarms", 1, (0, 5, 10)),
      )
      for share in shares
    },
  )
  for half in ("development", "report")
}


def resolve(key: str, content: Any) -> Any:
  """The value of a key in the content of a JSON file.

  Raises:
    KeyError: there is none, or more than one record that fits.
  """
  value = content
  for step in STEP.finditer(key):
    if step["where"] is not None:
      wanted = dict(part.split("=", 1) for part in step["where"].split(";"))
      fits = [r for r in value if all(str(r.get(name)) == v for name, v in wanted.items())]
      if len(fits) != 1:
        raise KeyError(f"{len(fits)} records fit [{step['where']}]")
      value = fits[0]
    elif isinstance(value, list):
      value = value[int(step["name"])]
    else:
      value = value[step["quoted"] if step["quoted"] is not None else step["name"]]
  return value


def number(marker: re.Match[str], results: pathlib.Path = RESULTS) -> str:
  """The number that stands before a marker.

  Raises:
    KeyError: the file has no such key; the message has the marker.
  """
  try:
    content = json.loads((results / f"{marker['file']}.json").read_text())
    value = resolve(marker["key"], content)
  except (KeyError, IndexError, OSError) as error:
    raise KeyError(f"{marker[0]}: {error}") from error
  factor = float(marker["factor"]) if marker["factor"] else 1
  scaled = value * factor
  return format(round(scaled) if marker["format"].endswith("d") else scaled, marker["format"])


def refreshed(text: str, results: pathlib.Path = RESULTS) -> str:
  """A page with its numbers and tables as the JSON files have them."""

  def with_number(marker: re.Match[str]) -> str:
    return number(marker, results) + marker[0][len(marker["text"]) :]

  def with_table(marker: re.Match[str]) -> str:
    name = marker["name"]
    return f"<!-- table: {name} -->\n\n{TABLES[name].table(results)}\n<!-- /table -->"

  return TABLE.sub(with_table, NUMBER.sub(with_number, text))


def pages() -> list[pathlib.Path]:
  """README, CONTRIBUTING and the pages of docs/."""
  return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def pages_that_run() -> list[pathlib.Path]:
  """Pages whose blocks of Python run, and print what stands below them."""
  return [page for page in pages() if snippets.outputs(page.read_text())]


def main() -> None:
  """Writes every page anew that is not as it should be."""
  for path in pages():
    before = path.read_text()
    after = refreshed(before)
    if _RUN.value and snippets.outputs(after):
      after = snippets.with_outputs(after)
    if after != before:
      path.write_text(after)
      print(f"refreshed: {path.relative_to(ROOT)}")


if __name__ == "__main__":
  common.run(main)
