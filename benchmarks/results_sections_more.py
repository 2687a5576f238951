"""What docs/results.md has beside the papers' tables: real sets, costs, and what went wrong."""

from benchmarks.results_sections import PAPERS, Section

SECTIONS = (
  *PAPERS,
  Section(
    "kinds",
    "Not in the paper: one kind of anomaly known, another one not",
    "A classifier is as good on the kind that it was given and far worse on the other; DROCC-OE "
    "and DROCC-LF are good on both. DROCC has a default of before, with mu 1.",
    ("kinds.png",),
  ),
  Section(
    "mixed",
    "Tables as they come: text, and missing cells",
    'Columns of few values as text, against one-hot by hand: what `columns="auto"` makes of them '
    "costs nothing. With 20 % of all cells missing at random in training and test, filled by "
    "what the other cells of the record lead one to expect (a factor model), DROCC loses half of "
    "what it lost with medians.",
    ("mixed.png",),
    command="python -m benchmarks.tables --table=mixed",
  ),
  Section(
    "missing",
    "What missing cells are worth to a learner that knows the labels",
    "The sets of the table above, every column a number. Gradient boosting (scikit-learn's, as it "
    "is) learns from labelled records of both kinds and is tested on the other half, in turn; it "
    "takes missing cells as they are, nothing is filled. What a fifth of the cells costs it says "
    "how much of the loss above lies in the records and not in how they are filled.",
    command="python -m benchmarks.tables --table=missing",
  ),
  Section(
    "adbench",
    "ADBench: one setting for all sets",
    "Not in the paper. Half of the typical records train, at most 5,000. The default was chosen on "
    "the development half of the sets, with test labels of these; radius rule and squares are "
    "older, chosen on splits of seed 0 of all of them (docs/choosing.md).",
    ("adbench.png",),
    command="python -m benchmarks.tables --table=adbench",
  ),
  Section(
    "adbench_more",
    "ADBench: the sets that nothing was chosen on",
    "One setting, the same splits. But for one set, wilt, DROCC and the neighbours are level. "
    "Twelve of these sets had been looked at with seed 0 before, and "
    "nothing was changed after it; the others not at all.",
    ("adbench-more.png",),
    command="python -m benchmarks.tables --table=adbench-more",
  ),
  Section(
    "adbench_peers",
    "ADBench: peers of today",
    "KDE, GMM, CBLOF, INNE and LUNAR are PyOD's, with its defaults; DTE's non-parametric estimator "
    "is the mean squared distance to five neighbours. ICL and SLAD are not measured. The same "
    "splits and standardisation.",
    ("adbench-peers.png",),
    command="python -m benchmarks.tables --table=adbench --methods=peers --seeds=1",
  ),
  Section(
    "adbench_peers",
    "ADBench: rank among peers",
    "By AUROC on each set: 1 is best, methods that are level share.",
    metric="rank",
    measure="rank",
    command="python -m benchmarks.tables --table=adbench --methods=peers --seeds=1",
  ),
  Section(
    "explain",
    "Why a record is flagged: are the planted columns named first?",
    "One to three columns are planted in typical records; in how many cases all of them are "
    "among the first three that an explanation names. `detector.explain` asks the score alone, "
    "and moves the fewest columns to typical values until the record passes. The last figure has "
    "the area below the score of anomalies of five sets of ADBench, as columns are replaced in "
    "the order named: smaller is better. KernelSHAP needs fewer columns in the mean until a "
    "record passes, and has the larger area.",
    ("explain-planted.png", "explain-deletion.png"),
    metric="planted in first 3",
    measure="cases, %",
    command="python -m benchmarks.tables --table=explain",
  ),
  Section(
    "explain_maps",
    "Where a picture is flagged: does the map point at the planted square?",
    "A square of 12 x 12 pixels of another texture in made textures of 64 x 64: how often the "
    "largest value of a map lies inside, among flagged pictures.",
    metric="share found",
    measure="flagged pictures, %",
    command="python -m benchmarks.tables --table=explain-maps",
  ),
  Section(
    "explain_maps",
    "Where a picture is flagged: how many of these are flagged",
    "At a stated 5 %.",
    metric="share flagged",
    measure="pictures, %",
    command="python -m benchmarks.tables --table=explain-maps",
  ),
  Section(
    "adbench",
    "ADBench: margin over five nearest neighbours",
    "On the same records; worst: the least of all seeds.",
    metric="margin over 5 nearest neighbours",
    measure="points of AUROC",
    command="python -m benchmarks.tables --table=adbench",
  ),
  Section(
    "adbench_chaos",
    "ADBench: what does not matter and moves AUROC",
    "Inputs changed by one part in a million, batches in the order of another seed, one thread. "
    "In points, without sign; worst: the most of all seeds.",
    ("adbench-chaos.png",),
    metric="movement of AUROC",
    measure="points of AUROC",
    command="python -m benchmarks.tables --table=adbench-chaos",
  ),
  Section(
    "adbench_former",
    "ADBench: the former default, the released settings and Deep SVDD",
    "DROCC is the default of then, which had been chosen looking at splits of seed 0 of all sets. "
    "The released settings are among the last here, as in published comparisons.",
    ("adbench-former.png",),
  ),
  Section(
    "adbench_ablations",
    "ADBench: what each part of the former default was worth",
    "One thing changed at a time.",
    ("adbench-ablations.png",),
    command="python -m benchmarks.tables --table=adbench-ablations",
  ),
  Section(
    "adbench_sizes",
    "ADBench: how much data",
    "The first records of the training half alone; DROCC's former default.",
    ("adbench-sizes.png",),
    command="python -m benchmarks.tables --table=adbench-sizes",
  ),
  Section(
    "small_sets",
    "Small sets: AUROC",
    "Sets of ADBench with 33 to 154 training records. Below 200 `DROCC()` trains a network without "
    "each of five folds, so that all records train and set the threshold; the other forms hold a "
    "fifth out, or state no rate. Folds, and that the network of so few records sees no squares, "
    "were settled on subsamples of cardio, letter, pendigits and vowels; glass is a development "
    "set, the others are reported.",
    command="python -m benchmarks.tables --table=small-sets",
  ),
  Section(
    "small_sets_alarms",
    "Small sets: false alarms at a stated 5 %",
    "Share of fresh typical records that a detector flags, over training sets of 50 and 100 "
    "records, 50 of each source. The score of the folds is the mean of their networks; counted: "
    "Vovk's cross-conformal p-values of the same networks. A split holds out 10 of 50 records, "
    "which can state no rate below one in eleven.",
    ("small-sets-alarms-5.png",),
    metric="false alarms at a stated 5 %",
    measure="typical records flagged, %",
    command="python -m benchmarks.tables --table=small-sets-alarms --seeds=50",
  ),
  Section(
    "small_sets_alarms",
    "Small sets: false alarms at a stated 10 %",
    "The same detectors.",
    ("small-sets-alarms-10.png",),
    metric="false alarms at a stated 10 %",
    measure="typical records flagged, %",
    command="python -m benchmarks.tables --table=small-sets-alarms --seeds=50",
  ),
  Section(
    "adaptation",
    "Thresholds that follow a stream: false alarms at a stated 5 %",
    "Typical records flagged in the second half of 20,000 simulated scores (digits: of one DROCC), "
    "which is calibrated on 300. Slow drift moves scores by three interquartile ranges and doubles "
    "their spread. A quantile of unflagged scores is what must not be done. What "
    "`--adapt=unflagged` assumes, that scores change in place and spread alone and have a tail, "
    "holds for gamma and t, not for scores with an edge. With `all` alarms are a "
    "budget, which anomalies use up.",
    ("adaptation.png",),
    metric="false alarms",
    measure="typical records flagged, %",
    command="python -m benchmarks.tables --table=adaptation --seeds=40",
  ),
  Section(
    "adaptation",
    "Thresholds that follow a stream: anomalies found",
    "The same streams. Anomalies lie beyond the 95 % quantile of the typical scores, so that a "
    "threshold that has the stated rate finds them all.",
    metric="anomalies found",
    measure="anomalies flagged, %",
    command="python -m benchmarks.tables --table=adaptation --seeds=40",
  ),
  Section(
    "contamination",
    "Anomalies among the training records: AUROC",
    "0, 2, 5 and 10 % of the training records are of the anomalies that are looked for, others of "
    "which test; ten sets, chosen by size. With a share stated the most extreme records are left "
    "out (`contamination=`, docs/choosing.md). Its rules were chosen on the development half, with "
    "labels; the report half was looked at once.",
    ("contamination-auroc.png",),
    metric="mean auroc",
    command="python -m benchmarks.tables --table=contamination --seeds=1",
  ),
  Section(
    "contamination",
    "Anomalies among the training records: how many are found",
    "Share of the test anomalies above the threshold at a stated rate of 5 %, which each method "
    "sets on a fifth of the same records.",
    ("contamination-recall.png",),
    metric="mean recall",
    measure="recall, %",
  ),
  Section(
    "contamination",
    "Anomalies among the training records: false alarms",
    "Share of the typical test records above the same thresholds; 5 % is stated.",
    ("contamination-false-alarms.png",),
    metric="mean false alarms",
    measure="false alarms, %",
  ),
  Section(
    "precision",
    "bfloat16 in the search",
    "The layers of the search compute in bfloat16 (`--config.precision=bf16`), all else does not. "
    "Which parts are rounded was chosen on Thyroid, seeds 2 and 3, looking at test AUROC. Measured "
    "with the former default (mu 10, a constant rate).",
    command="python -m benchmarks.tables --table=precision",
  ),
  *(
    Section(
      "small_devices",
      f"A C header for small devices: {title}",
      reading,
      metric=metric,
      measure=measure,
      command="python -m benchmarks.tables --table=small-devices",
    )
    for title, metric, measure, reading in (
      (
        "decisions",
        "differ",
        "decisions that differ from the detector's, of 100,000",
        "Not in the paper: `launch.export --format=c` with weights of each precision, compiled and "
        "run. int8 has int16 for the weights of the inputs. Of the drawn records those are looked "
        "at that are typical; of the sets of ADBench all test records, few of some sets, so that "
        "one decision counts for hundreds.",
      ),
      ("quality", "auroc", "AUROC, %", "`detector` is what Python says."),
      ("size", "bytes", "bytes of code and constants", "Compiled by gcc -O2 for x86-64."),
      ("speed", "microseconds", "microseconds a record", "One core, record by record."),
    )
  ),
  Section(
    "references",
    "The baselines against their published figures: F1",
    "Thyroid and Arrhythmia under GOAD's and DAGMM's protocol: half of the typical records train, "
    "the threshold at the number of anomalies. GOAD and DAGMM with their own settings, DCN and "
    "REBM with ours. Published: GOAD's paper for GOAD, DAGMM's for the others. One seed: GOAD is "
    "at its figure, DAGMM far below its own on Arrhythmia (and far above on Thyroid), DCN and REBM "
    "are above what DAGMM's paper has for them. The published figures were entered without those "
    "papers at hand and are to be checked.",
    metric="f1_at_true_ratio",
    measure="F1, %",
    command="python -m benchmarks.tables --table=references",
  ),
  Section(
    "references",
    "The baselines against their published figures: AUROC",
    "Deep SVDD and the kernel OC-SVM on MNIST, Deep SVDD on CIFAR-10, GEOM on CIFAR-10's airplane. "
    "The scale of a CPU is a reduced protocol: 1,000 images, 20 epochs for 150 to 350. On CIFAR-10 "
    "Deep SVDD collapsed at that scale on the first of three classes; the part was not finished. "
    "Published figures of single digits were entered without the paper at hand and are to be "
    "checked.",
    command="python -m benchmarks.tables --table=references",
  ),
  *(
    Section(
      "costs",
      f"What each method costs: {title}",
      reading,
      drawn,
      metric=metric,
      measure=f"{measure}, median",
      command="python -m benchmarks.tables --table=costs",
    )
    for title, metric, measure, reading, drawn in (
      (
        "quality",
        "auroc",
        "AUROC, %",
        "The half split; every method in one process, with its "
        "defaults (DROCC's former ones), a narrow set on which DROCC and the deep baselines are "
        "behind the simple ones.",
        ("costs.png",),
      ),
      ("training", "train_seconds", "seconds of training", "", ()),
      ("scoring", "rows_per_second", "rows a second", "At most 512 rows, compiled before.", ()),
      ("size", "parameters", "numbers that scoring needs", "", ()),
    )
  ),
  *(
    Section(
      "costs_mnist",
      f"What each method costs on images: {title}",
      reading,
      drawn,
      metric=metric,
      measure=f"{measure}",
      command="python -m benchmarks.tables --table=costs --costs='mnist 3'",
    )
    for title, metric, measure, reading, drawn in (
      (
        "quality",
        "auroc",
        "AUROC, %",
        "A digit of MNIST, 1,000 images; deep methods with the few epochs of the CPU scale.",
        ("costs_mnist.png",),
      ),
      ("training", "train_seconds", "seconds of training", "", ()),
      ("scoring", "rows_per_second", "rows a second", "", ()),
    )
  ),
  Section(
    "neuralfp",
    "NeuralFP: out-of-distribution sets",
    "Reproduces but for SVHN on the Fashion-MNIST model, which stays just below.",
    ("neuralfp_roc.png",),
  ),
)
