"""A detector folder from the shell, with this package alone.

    python -m detector_jax info FOLDER
    python -m detector_jax card FOLDER > card.md
    python -m detector_jax score FOLDER records.csv > scores.csv
    python -m detector_jax score FOLDER records.csv --explain --keep=id > scores.csv

``card`` is the model card, see ``detector_jax.card``. ``score`` reads .csv (matched by name where
it has a header) and .npy, and writes score, p_value and decision of each record to standard output,
columns of a .csv before them with ``--keep``, and why it is anomalous with ``--explain``. The marks
between fields and in numbers are sniffed, or set by ``--dialect=';,'``, see ``dialect.of``.
``python -m launch.score`` of a clone reads more formats, in chunks.
"""

import argparse
from collections.abc import Sequence
import csv
import io
import os
import pathlib
import sys
from typing import Any

import numpy as np

import detector_jax
from detector_jax import artifact, card, dialect, schema, table

WRITTEN = ("score", "p_value", "decision", "reason")
SNIFFED = 2**20  # characters that tell how a .csv is written


def main(arguments: list[str] | None = None) -> int:
  """Runs one command; the exit code is 1 with one line on standard error where it cannot."""
  parser = argparse.ArgumentParser("python -m detector_jax", description="A detector folder.")
  commands = parser.add_subparsers(dest="command", required=True)
  info = commands.add_parser("info", help="what a detector is, and what rate it states")
  cards = commands.add_parser("card", help="the same and more for people, as Markdown")
  score = commands.add_parser("score", help="scores of records, as CSV on standard output")
  for command in (info, cards, score):
    command.add_argument("folder", help="of the detector")
  score.add_argument("records", help=".csv or .npy")
  score.add_argument("--header", choices=table.HEADERS, default="auto", help="of a .csv")
  score.add_argument("--explain", action="store_true", help="say why a record is anomalous")
  score.add_argument("--dialect", default="auto", help="of a .csv: delimiter and decimal mark")
  score.add_argument("--keep", default="", help="columns of a .csv to write beside it: id,time")
  given = parser.parse_args(arguments)
  try:
    if given.command == "score":
      _score(given)
    else:
      (_info if given.command == "info" else _card)(given.folder)
    sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except (ValueError, OSError, RuntimeError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
  return 0


def _info(folder: str) -> None:
  detector = detector_jax.load(folder)
  rows = card.facts(detector, artifact.read_description(folder))
  checks = {f"health: {name}": verdict for name, verdict in card.health(detector).items()}
  for name, value in (rows | checks).items():
    print(f"{name}: {value}")


def _card(folder: str) -> None:
  described = artifact.read_description(folder)
  print(card.markdown(detector_jax.load(folder), described), end="")


def _score(given: argparse.Namespace) -> None:
  detector = detector_jax.load(given.folder)
  header = given.header if detector.schema is None else "yes"
  if detector.schema is not None and given.header == "no":
    raise ValueError("This detector finds columns by their names: give a header, not --header=no.")
  path, ending = given.records, pathlib.Path(given.records).suffix.lower()
  if ending not in (".csv", ".npy"):
    raise ValueError(f"{path} has an unknown ending {ending!r}; known ones are .csv and .npy.")
  if given.keep and ending != ".csv":
    raise ValueError(f"--keep is for .csv files, which name columns, not {path}.")
  if given.dialect != "auto" and ending != ".csv":
    raise ValueError(f"--dialect is for .csv files, not {path}.")
  kept: list[str] = []
  beside: list[list[str]] = []
  if ending == ".npy":
    x: Any = np.load(path, allow_pickle=False)
  else:
    lines, found = _lines(path, given.dialect)
    kept, beside = _kept(path, lines, given.keep, header, detector.feature_names)
    if detector.schema is None:
      x = _numbers(path, lines, found, detector.feature_names, given.header, kept)
    else:
      x = _columns(path, lines, found, detector.schema)
  scores = detector.score(x)
  calibrated = detector.calibration.scores.size > 0
  p_values = detector.calibration.p_value(scores) if calibrated else [None] * len(scores)
  writer = csv.writer(sys.stdout, lineterminator="\n")
  names = [*kept, *WRITTEN]
  writer.writerow(names if given.explain else names[:-1])
  flagged = scores > np.float32(detector.threshold)
  rows = np.flatnonzero(flagged)
  told = (
    detector.explain(detector.records(x)[rows]).describe() if given.explain and len(rows) else []
  )
  reasons = dict(zip(rows.tolist(), told, strict=False))
  for row, (score, p) in enumerate(zip(scores.tolist(), p_values, strict=True)):
    shown = "" if p is None else f"{p:.9g}"
    cells = [*(beside[row] if kept else ()), f"{score:.9g}", shown, int(flagged[row])]
    writer.writerow([*cells, reasons.get(row, "")] if given.explain else cells)


Lines = list[tuple[int, list[str]]]


def _lines(path: str, setting: str) -> tuple[Lines, dialect.Dialect]:
  """The lines of a .csv that hold something, with their numbers, and how it is written."""
  try:
    text = pathlib.Path(path).read_bytes().decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is not in UTF-8, at byte {error.start}: save it so.") from error
  found = dialect.of(setting, text[:SNIFFED], path)
  if setting == "auto" and found != dialect.Dialect():
    print(f"{path}: {found}.", file=sys.stderr)
  reader = csv.reader(io.StringIO(text, newline=""), delimiter=found.delimiter)
  try:
    return [(reader.line_num, fields) for fields in reader if fields], found
  except csv.Error as error:
    raise ValueError(f"Line {reader.line_num} of {path} cannot be read: {error}.") from error


def _kept(
  path: str, lines: Lines, keep: str, header: str, trained: tuple[str, ...] | None
) -> tuple[list[str], list[list[str]]]:
  """Names of the columns that are to stand beside the scores, and their cells as they are."""
  names = keep.split(",") if keep else []
  if not names:
    return [], []
  if len({*names, *WRITTEN}) < len(names) + len(WRITTEN):
    raise ValueError(f"--keep={keep} would write two columns of one name.")
  found, named = table.header(path, lines[0][1] if lines else [], header, trained)
  if lacking := [name for name in names if name not in found]:
    raise ValueError(
      f"{path} has no column {table.listed(lacking)} to keep; it has {table.listed(found)}."
    )
  places = [found.index(name) for name in names]
  return names, [["".join(fields[i : i + 1]) for i in places] for _, fields in lines[named:]]


def _check_length(path: str, number: int, fields: Sequence[str], names: Sequence[str]) -> None:
  if len(fields) != len(names):
    raise ValueError(
      f"Line {number} of {path} has {len(fields)} fields where the first has {len(names)}; repair "
      "the line."
    )


def _columns(
  path: str, lines: Lines, written: dialect.Dialect, known: schema.Schema
) -> list[dict[str, str]]:
  """Records by column; what a schema reads in its own notation as it is, numbers with a point."""
  names = lines[0][1] if lines else []
  table.check_unique(path, names)
  own = {column.name for column in known.columns if column.notation}
  records = []
  for number, fields in lines[1:]:
    _check_length(path, number, fields, names)
    pairs = zip(names, fields, strict=True)
    records.append({n: field if n in own else written.plain(field) for n, field in pairs})
  if not records:
    raise ValueError(f"{path} holds no records.")
  return records


def _numbers(
  path: str,
  lines: Lines,
  written: dialect.Dialect,
  trained: tuple[str, ...] | None,
  header: str,
  kept: Sequence[str],
) -> np.ndarray:
  """Records ``[n, columns]``, in the detector's order; ``kept`` is not told as left out."""
  names, named = table.header(path, lines[0][1] if lines else [], header, trained)
  places = table.match(names, trained, path, kept=kept) if named else list(range(len(names)))
  rows = []
  for number, fields in lines[named:]:
    _check_length(path, number, fields, names)
    rows.append([table.number(written.plain(fields[place])) for place in places])
    if not np.isfinite(rows[-1]).all():
      place = places[int(np.argmin(np.isfinite(rows[-1])))]
      raise ValueError(
        f"Line {number} of {path} holds {fields[place][:40]!r} in column {names[place]!r}, no "
        "finite number; repair it."
      )
  if not rows:
    raise ValueError(f"{path} holds no records.")
  return np.array(rows)


if __name__ == "__main__":
  sys.exit(main())
