"""The papers' tables, measured: python -m benchmarks.tables --table=7 --output=table7.json

2, 6 and 7 are those of the DROCC paper; figure1, ocln-mnist and ocln-speech are its experiments
with limited negatives, and kinds asks what a few labelled negatives are worth on real sets.
neuralfp, neuralfp-layers, neuralfp-peers and neuralfp-shifts are of NeuralFP.

Prints a readable table, or with --output writes JSON and, beside it, the figures as PNG files.
Columns: ``last`` epoch, ``selected`` without any test label, ``oracle`` best test epoch.
"""

import pathlib

from absl import flags

from benchmarks import kinds, limited_negatives, neuralfp, records, synthetic, tabular
from launch import flags as common
from launch.reporting import progress

TABLES = {
  "2": (tabular.table2, tabular.count2),
  "6": (synthetic.table6, synthetic.count),
  "7": (synthetic.table7, synthetic.count),
  "kinds": (kinds.table, kinds.count),
  "figure1": (limited_negatives.figure1, limited_negatives.count_methods),
  "ocln-mnist": (limited_negatives.table_mnist, limited_negatives.count_methods),
  "ocln-speech": (limited_negatives.table_speech, limited_negatives.count_speech),
  "neuralfp": (neuralfp.table, neuralfp.count),
  "neuralfp-layers": (neuralfp.table_layers, neuralfp.count),
  "neuralfp-peers": (neuralfp.table_peers, neuralfp.count),
  "neuralfp-shifts": (neuralfp.table_shifts, neuralfp.count_shifts),
}

_TABLE = flags.DEFINE_enum("table", "7", sorted(TABLES), "What to measure.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds; 0: 5 for DROCC, 3 for NeuralFP.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file; figures go beside it.")


def main() -> None:
  """Measures one table."""
  measure, count = TABLES[_TABLE.value]
  output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
  if output is not None:
    records.check_writable(output)
  seeds = _SEEDS.value or (3 if _TABLE.value.startswith("neuralfp") else 5)
  with progress.bar(f"table {_TABLE.value}", count(seeds)) as advance:
    measured, drawn = measure(seeds, advance)
  if output is None:
    records.show(measured)
    return
  records.write(output, measured)
  for name, figure in drawn.items():
    path = output.with_name(f"{name}.png")
    figure.savefig(path, dpi=144)
    print(f"figure: {path}")
  print(f"records: {output}")


if __name__ == "__main__":
  common.run(main)
