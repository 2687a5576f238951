"""What each notebook draws, and what is asked of it when it has run."""

FIGURES = {
  "drocc_quickstart": {"sine-figure", "table-figure", "promise-figure", "images-figure"},
  "limited_negatives": {"bars", "heatmap"},
  "neuralfp_on_the_edge": {"shifts-figure", "layers-figure", "watch"},
  "own_table": {"numbers-figure", "alarms-figure", "drift-figure"},
  "folder_of_parts": {"parts-figure", "maps"},
  "sensor": {"series-figure", "score-figure", "watch-figure"},
}
# Evaluated in the kernel after the last cell.
ASKED = {
  "drocc_quickstart": """{
    "sine": sine_auroc, "table": table_auroc, "winner": winner,
    "stated": stated.tolist(), "realised": realised.mean(axis=0).tolist(),
    "once": float(detector.predict(x_fresh).mean()), "fpr": detector.fpr,
    "digits": digits_auroc, "others": float(flagged_others), "difference": float(difference),
    "thresholds": [loaded.threshold, image_detector.threshold],
  }""",
  "limited_negatives": """{
    "means": {name: {kind: float(v) for kind, v in each.items()} for name, each in means.items()},
    "worst": {name: float(min(values_of(name, "unseen"))) for name in METHODS},
    "given": [given_kind[digit] for digit in TYPICAL_DIGITS], "typical": list(TYPICAL_DIGITS),
    "shared": sum(
      int((development[d][:, None] == test[d][None]).all(axis=2).sum()) for d in range(10)
    ),
  }""",
  "neuralfp_on_the_edge": """{
    "imported": told["imported"], "alarm": alarm, "quiet": QUIET, "difference": float(difference),
    "accuracy": float(accuracy), "stated": stated, "jointly": float(jointly),
    "separately": float(separately), "layers": list(fingerprint.layers_),
    "flagged": {name: float(sum(each)) for name, each in objections.items()},
    "before": float(flagged[:QUIET].mean()), "folder_left": folder.exists(),
    "device": float(abs(device["scores"] - own_scores).max() / abs(own_scores).max()),
  }""",
  "own_table": """{
    "guessed": {column.name: column.kind for column in guessed.columns},
    "kinds": {column.name: column.kind for column in model.schema_.columns},
    "realised": {name: float(value) for name, value in realised.items()},
    "interval": (promised.ppf([0.001, 0.999]) / honest.sum()).tolist(), "auroc": auroc,
    "ranks": ranks.tolist(), "flagged": int(flagged["DROCC"][~honest].sum()),
    "frauds": int((~honest).sum()), "found": found,
    "same": same, "records": len(later), "difference": float(difference), "card": card,
    "alarm": alarm, "quiet": QUIET, "folder_left": folder.exists(),
  }""",
  "folder_of_parts": """{
    "stated": decision["stated_fpr"], "realised": [low, high], "recall": decision["recall"],
    "auroc": {kind: [ours[kind]["auroc"], theirs[kind]] for kind in ours},
    "empty": scores["file"][scores["score"].isna()].tolist(), "files": len(scores),
    "near": near, "spoke": len(apart), "folder_left": here.exists(),
  }""",
  "sensor": """{
    "stated": decision["stated_fpr"], "realised": decision["realised_fpr"], "events": events,
    "inside": {
      name: EVENTS[name].start - WINDOW < step < EVENTS[name].stop + WINDOW
      for name, step in highest.items()
    },
    "shares": shares, "steps": len(steps), "samples": len(new),
    "alarm": alarm, "quiet": QUIET, "before": float(watched["decision"][before].mean()),
    "lines": watched["line"].tolist(), "window": WINDOW, "stride": STRIDE,
    "folder_left": here.exists(),
  }""",
}
