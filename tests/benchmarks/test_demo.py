"""The README's first command: what it prints is there, and its numbers are those of its methods."""

import dataclasses
import re

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from benchmarks import demo
from configs import neuralfp_digits
from launch.data import bundled


def test_both_acts_leave_reports_and_figures(tmp_path, monkeypatch, capsys):
  """Two digits, one seed, and trainings of a few epochs."""
  monkeypatch.setattr(demo, "EPOCHS", 3)
  config = neuralfp_digits.get_config()
  training = dataclasses.replace(config.classifier.training, epochs=2)
  config.classifier = dataclasses.replace(config.classifier, training=training)
  config.fingerprint = dataclasses.replace(config.fingerprint, epochs=2)
  monkeypatch.setattr(neuralfp_digits, "get_config", lambda: config)
  flags.FLAGS.mark_as_parsed()
  output = tmp_path / "demo"
  with flagsaver.flagsaver(output=str(output), seeds=1, digits=["0", "8"]):
    demo.main()
  said = capsys.readouterr().out
  found = re.findall(r"\S+\.(?:png|html)", "".join(said.split("figures:")[1:]).replace("\n", " "))
  assert len(found) == 6
  for name in ("contact_sheet.png", "roc.png", "report.html"):
    assert (output / name).stat().st_size > 1000
  for name in ("layers.png", "error_maps.png", "report.html"):
    assert (output / "neuralfp" / name).stat().st_size > 1000
  page = (output / "report.html").read_text()
  assert page.index("DROCC scores an anomaly above a typical image") < page.index("<table")
  (row,) = re.findall(r"<tr>\s*<td[^>]*>digit 8</td>(.*?)</tr>", page, re.DOTALL)
  cells = re.findall(r">([\d.]+)</td>", row)
  names = re.findall(r"<th>([^<]*)</th>", page)
  assert names == ["typical", "DROCC", *demo.BASELINES]
  by = dict(zip(names[1:], map(float, cells), strict=True))
  splits = bundled.digits(8, 0)
  scale = StandardScaler().fit(splits.x_train)
  z, z_test = (np.clip(scale.transform(x), -10, 10) for x in (splits.x_train, splits.x_test))
  distance = NearestNeighbors(n_neighbors=1).fit(z).kneighbors(z_test)[0][:, 0]
  assert by["nearest neighbour"] == pytest.approx(roc_auc_score(splits.y_test, distance), abs=0.02)
  assert "found at a stated false-positive rate of" in said


def test_the_conclusion_names_place_and_winner():
  first = demo.conclusion(["DROCC", "LOF"], np.array([0.952, 0.9]))
  assert (
    first
    == "DROCC scores an anomaly above a typical image 95.2 % of the time, the best of 2 methods."
  )
  third = demo.conclusion(["DROCC", "LOF", "SVM"], np.array([0.9, 0.95, 0.97]))
  assert third.endswith("90.0 % of the time, place 3 of 3; best is SVM, 97.0 %.")


def test_what_is_no_digit_is_refused():
  flags.FLAGS.mark_as_parsed()
  with (
    flagsaver.flagsaver(digits=["0", "x"]),
    pytest.raises(ValueError, match=r"--digits takes digits such as 0,1,8, got \['0', 'x'\]"),
  ):
    demo.main()
