"""Cells of a long table that are measured already, so that an interrupted table goes on.

A file of JSON lines beside the output. The first says what was measured with what; a file of
another table, commit or machine is not gone on with. More seeds or classes are.
"""

from collections.abc import Callable, Iterable, Sequence
import functools
import itertools
import json
import logging
import pathlib
from typing import Any

from benchmarks import records
from detector_jax import atomic

logger = logging.getLogger(__name__)

Cell = dict[str, dict[str, float]]


class Ledger:
  """What was measured: key -> ``{method: {column: value}}``.

  Args:
    path: of the file, ``None`` keeps nothing.
    facts: what is measured, as JSON has it; commit, versions and hardware go with it.
  """

  def __init__(self, path: pathlib.Path | None = None, facts: Any = None):
    self._path, self._cells = path, {}
    if path is None:
      return
    facts = [facts, records.commit(), records.versions(), records.hardware()]
    self._cells = _read(path, facts)
    self._facts = facts

  def cell(self, key: Sequence[str | int], measure: Callable[[], Cell]) -> Cell:
    """The cell of that key, measured and written down where it is not there yet."""
    known = tuple(key)
    if known not in self._cells:
      self._cells[known] = measure()
      self._write()
    return self._cells[known]

  def gather(
    self,
    rows: Iterable[str],
    seeds: int,
    measure: Callable[[str, int], Cell],
    advance: Callable[..., None],
  ) -> dict[tuple[str, str, str], list[float]]:
    """The cells of all rows and seeds, seed by seed, so that what is there is there of every row.

    Args:
      rows: of the table.
      seeds: how many.
      measure: ``(row, seed) -> {method: {metric: value}}``.
      advance: told of each cell.

    Returns:
      ``(row, method, metric) -> values of the seeds``.
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    for seed, row in itertools.product(range(seeds), rows):
      cell = self.cell((row, seed), functools.partial(measure, row, seed))
      for method, values in cell.items():
        for metric, value in values.items():
          found.setdefault((row, method, metric), []).append(value)
      advance(1, f"{row}, seed {seed}")
    return found

  def close(self) -> None:
    """Removes the file; call it when the table is written."""
    if self._path is not None:
      self._path.unlink(missing_ok=True)

  def _write(self) -> None:
    if self._path is None:
      return
    lines = [self._facts, *([list(key), cell] for key, cell in self._cells.items())]
    atomic.write_text(self._path, "".join(json.dumps(line) + "\n" for line in lines))


def _read(path: pathlib.Path, facts: Any) -> dict[tuple[str | int, ...], Cell]:
  """The cells of a file of the same facts; a last line that was cut off is left out."""
  try:
    lines = path.read_text().splitlines()
  except FileNotFoundError:
    return {}
  cells: dict[tuple[str | int, ...], Cell] = {}
  try:
    if json.loads(lines[0]) != json.loads(json.dumps(facts)):
      logger.warning("%s is of another table, commit or machine; measuring anew.", path)
      return {}
    for line in lines[1:]:
      key, cell = json.loads(line)
      cells[tuple(key)] = cell
  except (ValueError, IndexError, TypeError):
    pass
  return cells
