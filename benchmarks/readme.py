"""Numbers, tables and outputs of README and docs, as they are now: python -m benchmarks.readme

Three kinds of marker, all of them comments that no reader sees:

  <!--= speed_thyroid records.0.ratio .1f -->9.7<!--/-->
      a number: a file of benchmarks/results, a key in it, how to write it, and, where the unit is
      another one, a factor such as x1e-6. A key is steps between dots: a name, a place in a list,
      a name with dots in quotes, or [row=mean;method=DROCC], the one record that has these values.
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
  r"<!--= (?P<file>\S+) (?P<key>.+?) (?P<format>\S*[dfg])(?: x(?P<factor>\S+))? -->"
  r"(?P<text>[^<]*)<!--/-->"
)
TABLE = re.compile(r"<!-- table: (?P<name>\S+) -->\n(?P<body>.*?)<!-- /table -->", re.DOTALL)
STEP = re.compile(r'\[(?P<where>[^\]]*)\]|"(?P<quoted>[^"]*)"|(?P<name>[^.\["]+)')

_RUN = flags.DEFINE_bool("run", True, "Run the code blocks, too.")


@dataclasses.dataclass(frozen=True)
class Summary:
  """Some rows and methods of a file of records, the ``last`` column.

  Attributes:
    file: in benchmarks/results, without ending.
    methods: heading -> method.
    rows: first cell -> row; one row alone has no first cell.
    metric: of the records.
    digits: after the point.
  """

  file: str
  methods: Mapping[str, str]
  rows: Mapping[str, str]
  metric: str = "auroc"
  digits: int = 1

  def table(self, results: pathlib.Path = RESULTS) -> str:
    """Mean and standard deviation in Markdown."""
    records = json.loads((results / f"{self.file}.json").read_text())["records"]
    found = {
      (r["row"], r["method"]): r
      for r in records
      if r["metric"] == self.metric and r["column"] == "last"
    }
    first = [""] if len(self.rows) > 1 else []
    lines = [
      results_page.line(*first, *self.methods),
      results_page.line(*["---"] * (len(first) + len(self.methods))),
    ]
    for title, row in self.rows.items():
      cells = [
        results_page.cell(found[row, method], self.digits) for method in self.methods.values()
      ]
      lines.append(results_page.line(*([title] if first else []), *cells))
    return "\n".join(lines) + "\n"


TABLES = {
  "adbench": Summary(
    "adbench",
    {
      "DROCC()": "DROCC",
      "5 nearest neighbours": "5 nearest neighbours",
      "LOF": "LOF",
      "Deep SVDD": "Deep SVDD",
      "isolation forest": "isolation forest",
      "OC-SVM": "OC-SVM",
      "DROCC, released settings": "DROCC, released settings",
    },
    {"mean of the sets": "mean"},
  ),
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
  """What stands between the two comments of a number.

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
    opening = marker[0][: marker.start("text") - marker.start()]
    return f"{opening}{number(marker, results)}<!--/-->"

  def with_table(marker: re.Match[str]) -> str:
    name = marker["name"]
    return f"<!-- table: {name} -->\n{TABLES[name].table(results)}<!-- /table -->"

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
