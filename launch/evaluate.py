"""Evaluates a finished run.

python -m launch.evaluate --workdir=runs/digits
"""

import pathlib
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from launch import evaluation
from launch import flags as common
from launch.reporting import evaluated

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run that launch.train finished.")


def main() -> None:
  """Prints the metrics and where they, the figures and the report are."""
  common.require(workdir=_WORKDIR.value)
  workdir = pathlib.Path(_WORKDIR.value)
  result = evaluation.evaluate(workdir)
  table = Table("metric", "value", "95 % interval", title=f"{workdir}, last epoch")
  ends = {**result["intervals"]["metrics"], **result["intervals"]["decision"]}
  for name, value in {**result["metrics"], **result["decision"], **result["labels"]}.items():
    if value is not None and name not in ("stated", "confidence"):
      title = (evaluated.METRICS | evaluated.DECISION).get(name, name)
      table.add_row(title, _cell(value), " to ".join(map(_cell, ends.get(name, []))))
  console = Console()
  console.print(table)
  print(evaluated.conclusion(result))
  print(f"stated:  {result['decision']['stated']}")
  if note := evaluated.note(result):
    print(f"note:    {note}")
  for finding in result["health"]:
    verdict = "passed" if finding["passed"] else f"WARNING: {finding['message']}"
    print(f"health:  {finding['check']} {finding['value']:.4g}, {verdict}")
  if sources := result.get("sources"):
    table = Table("anomalies from", *next(iter(sources.values())))
    for source, values in sources.items():
      table.add_row(source, *map(_cell, values.values()))
    console.print(table)
  print(f"metrics: {workdir / 'metrics.json'}")
  print(f"report:  {workdir / 'report.html'}")


def _cell(value: Any) -> str:
  return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
  common.run(main)
