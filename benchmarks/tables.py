"""The papers' tables, measured.

  python -m benchmarks.tables --table=7 --output=table7.json

1, 2, 3, 4, 6, 7, 8, figure7 and figure8 are those of the DROCC paper, mnist is one digit against
the others, fidelity has the released recipe in JAX and in PyTorch, features puts feature maps in
front of DROCC on images, pretrained activations of a network trained on ImageNet, and defects has
small scratches on made textures; figure1, ocln-mnist and ocln-speech are its experiments with
limited negatives, and kinds asks what a few labelled negatives are worth on real sets. mixed has
tables with text and missing cells, missing asks what the cells themselves are worth, series has
DROCC() on one class of series, windows a long series with one odd stretch, explain asks whether
explanations name the columns that were planted, explain-maps whether maps point at squares that
were. neuralfp, neuralfp-layers, neuralfp-steps and neuralfp-shifts are of NeuralFP with the paper's
rule, neuralfp-peers has its default beside other scores of the same networks. adbench has real sets
of ADBench and one setting for all of them, adbench-more those that nothing was chosen on; adbench-
ablations says what each part of that setting is worth, adbench-sizes how much data it wants,
adbench-epochs how AUROC goes along a training, and adbench-chaos how far it moves where nothing of
substance does; contamination mixes anomalies into the training records; small-sets has few of them,
and small-sets-alarms the rate of false alarms there. references holds every baseline against a
published figure under that figure's protocol, costs has training seconds, scoring rate and size
beside quality, adaptation what thresholds that follow a stream realise, precision says what
bfloat16 in the search costs, and small-devices what it costs to score by a C header with rounded
weights. The full protocol of images and series is for a GPU; --scale=cpu is a reduced one, see
``benchmarks.images`` and ``benchmarks.series``. With --output an interrupted table of these goes on
where it was, given the same command again. Prints a readable table, or with --output writes JSON
and, beside it, the figures as PNG files. Columns: ``last`` epoch, ``selected`` without any test
label, ``oracle`` best test epoch.
"""

from collections.abc import Callable
import functools
import pathlib
import time
from typing import Any

from absl import flags

from benchmarks import (
  adapting,
  adbench,
  chaos,
  contamination,
  costs,
  defects,
  epochs,
  explain,
  explain_maps,
  features,
  fidelity,
  images,
  kinds,
  limited_negatives,
  mixed,
  neuralfp,
  neuralfp_peers,
  precision,
  pretrained,
  records,
  references,
  series,
  series_classes,
  small_devices,
  small_sets,
  synthetic,
  tabular,
  transformations,
  windows,
)
from benchmarks.ledger import Ledger
from launch import flags as common
from launch.reporting import progress

Measure = Callable[..., Any]
TABLES: dict[str, tuple[Measure, Callable[[int], int]]] = {
  "2": (tabular.table2, tabular.count2),
  "6": (synthetic.table6, synthetic.count),
  "7": (synthetic.table7, synthetic.count),
  "kinds": (kinds.table, kinds.count),
  "mixed": (mixed.table, mixed.count),
  "missing": (mixed.table_missing, mixed.count_missing),
  "explain-maps": (explain_maps.table, explain_maps.count),
  "figure1": (limited_negatives.figure1, limited_negatives.count_methods),
  "ocln-mnist": (limited_negatives.table_mnist, limited_negatives.count_methods),
  "ocln-speech": (limited_negatives.table_speech, limited_negatives.count_speech),
  "neuralfp": (neuralfp.table, neuralfp.count),
  "neuralfp-layers": (neuralfp.table_layers, neuralfp.count),
  "neuralfp-steps": (neuralfp.table_steps, neuralfp.count),
  "neuralfp-shifts": (neuralfp.table_shifts, neuralfp.count_shifts),
}

RESUMED: dict[str, tuple[Measure, Callable[[int], int]]] = {
  "series": (series_classes.table, series_classes.count),
  "1": (images.table1, images.count1),
  "3": (series.table3, series.count),
  "windows": (windows.table, windows.count),
  "4": (transformations.table4, transformations.count),
  "8": (images.table8, images.count1),
  "features": (features.table, features.count),
  "fidelity": (fidelity.table, fidelity.count),
  "pretrained": (pretrained.table, pretrained.count),
  "defects": (defects.table, defects.count),
  "explain": (explain.table, explain.count),
  "contrast": (images.table_contrast, images.count1),
  "mnist": (images.table_mnist, images.count_mnist),
  "neuralfp-peers": (neuralfp_peers.table, neuralfp_peers.count),
  "figure7": (images.figure7, images.count_sweep),
  "figure8": (images.figure8, images.count_sweep),
  "references": (references.table, references.count),
  "costs": (costs.table, costs.count),
  "precision": (precision.table, precision.count),
  "small-devices": (small_devices.table, small_devices.count),
  "adaptation": (adapting.table, adapting.count),
  "adbench": (adbench.table, adbench.count),
  "adbench-more": (adbench.table_more, adbench.count_more),
  "adbench-chaos": (chaos.table, chaos.count),
  "adbench-epochs": (epochs.table, epochs.count),
  "adbench-ablations": (adbench.table_ablations, adbench.count_ablations),
  "adbench-sizes": (adbench.table_sizes, adbench.count_sizes),
  "contamination": (contamination.table, contamination.count),
  "small-sets": (small_sets.table, small_sets.count),
  "small-sets-alarms": (small_sets.table_alarms, small_sets.count_alarms),
}

_TABLE = flags.DEFINE_enum("table", "7", sorted((*TABLES, *RESUMED)), "What to measure.")
_SEEDS = flags.DEFINE_integer("seeds", 0, "Seeds; 0: 5 for DROCC, 3 for NeuralFP.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file; figures go beside it.")


def main() -> None:
  """Measures one table."""
  output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
  if output is not None:
    records.check_writable(output)
  partial = None if output is None else output.with_suffix(".partial.jsonl")
  ledger = Ledger(partial, [_TABLE.value, images.chosen_scale()])
  measure, count = (TABLES | RESUMED)[_TABLE.value]
  if _TABLE.value in RESUMED:
    measure = functools.partial(measure, ledger=ledger)
  began = time.monotonic()
  seeds = _SEEDS.value or (3 if _TABLE.value.startswith("neuralfp") else 5)
  with progress.bar(f"table {_TABLE.value}", count(seeds)) as advance:
    measured, drawn = measure(seeds, advance)
  if output is None:
    records.show(measured)
    return
  facts = {"scale": images.chosen_scale()} if _TABLE.value in RESUMED else {}
  records.write(output, measured, seconds=round(time.monotonic() - began), **facts)
  ledger.close()
  for name, figure in drawn.items():
    path = output.with_name(f"{name}.png")
    figure.savefig(path, dpi=144)
    print(f"figure: {path}")
  print(f"records: {output}")


if __name__ == "__main__":
  common.run(main)
