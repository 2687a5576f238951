"""The report as a page: nothing from elsewhere, every part, and the records it picks out."""

import base64
import html.parser
import io
import re

from matplotlib import image as mpl_image
from matplotlib.figure import Figure
import numpy as np
import pytest

import detector_jax
from detector_jax import typical
from detector_jax.preprocessing import Identity
from launch import data
from launch.reporting import evaluated, intervals, layers, report

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
  """Tags with their attributes, rows of tables, and tags that were not closed."""

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.rows, self.open, self.texts = [], [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ("td", "th"):
      self.rows[-1][-1] += data
    self.texts.append(data)

  def of(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def first(variables, x):
  """The score of a record is its first value."""
  return x.reshape(len(x), -1)[:, 0]


def splits_of(x_train, x_test, **more) -> data.Splits:
  labels = np.repeat([0, 1], len(x_test) // 2)
  return data.Splits(x_train, x_test, labels, description="made <by> hand", **more)


def reported(splits, workdir, explains=False, **metadata) -> Page:
  """Writes the report of a detector that scores by the first value, and may say why."""
  facts = {
    "method": "First",
    "summary": "Made.",
    "training_records": 1234,
    "radius": 2.5,
    **metadata,
  }
  detector = detector_jax.Detector.create(
    first, {}, Identity(), splits.x_train.shape[1:], metadata=facts
  ).calibrate(splits.x_train, 0.1)
  detector = typical.with_typical(detector, splits.x_train) if explains else detector
  x, labels = splits.labelled_test()
  scores = detector.score(x)
  ends = intervals.bootstrap(labels, scores, detector.threshold, draws=50)
  decision = {name: ends.pop(name) for name in ("realised_fpr", "recall")}
  result = {
    "metrics": dict.fromkeys(ends, 0.5),
    "intervals": {"level": 0.95, "draws": 50, "seed": 0, "metrics": ends, "decision": decision},
    "decision": {
      "threshold": 1.0,
      "stated_fpr": 0.1,
      "confidence": None,
      "stated": detector.rate,
      "realised_fpr": 0.2,
      "recall": 0.9,
    },
    "health": detector.metadata.get("health", []),
    "labels": {"typical": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())},
    "detector": facts,
    "versions": {"jax": "1.2.3"},
  }
  path = evaluated.write(workdir, evaluated.Evaluated(splits, scores, detector, result))
  return Page(path.read_text())


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[data.Splits, Page]:
  """Three columns; one of them is constant in training; and the page of the report."""
  rng = np.random.default_rng(0)
  x_train = rng.normal(size=(200, 3)) * [1.0, 10.0, 0.0] + [0.0, 0.0, 7.0]
  x_test = rng.normal(size=(40, 3)) * [1.0, 10.0, 0.0] + [0.0, 0.0, 7.0]
  x_test[33] = [50.0, 3.0, 8.0]
  splits = splits_of(x_train, x_test, feature_names=("height", "<width>", "depth"))
  config = {"seed": 3, "name": "</pre><script>"}
  return splits, reported(splits, tmp_path_factory.mktemp("table"), config=config)


def test_nothing_is_fetched_from_elsewhere(table):
  _, page = table
  for tag, attributes in page.tags:
    assert tag not in ("script", "iframe", "object", "embed", "base")
    for name in ("src", "href", "srcset", "poster", "data", "action"):
      assert attributes.get(name, "data:").startswith("data:"), (tag, name)
    assert "url(" not in attributes.get("style", "")
  styles = "".join(page.texts)
  assert "url(" not in styles
  assert "@import" not in styles
  (policy,) = [m["content"] for m in page.of("meta") if "http-equiv" in m]
  assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_tag_is_closed_and_what_the_data_say_is_text(table):
  _, page = table
  assert page.open == []
  assert "First on made <by> hand" in page.texts
  assert any('"name": "</pre><script>"' in text for text in page.texts)


def test_it_fits_a_phone_where_tables_and_figures_scroll(table):
  _, page = table
  assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
  scrolling = [a for a in page.of("div") if "scroll" in a.get("class", "").split()]
  assert len(scrolling) == len(page.of("table")) + len(page.of("figure"))
  widths = [int(re.fullmatch(r"width: (\d+)px", a["style"])[1]) for a in page.of("figure")]
  least = [int(re.fullmatch(r"min-width: (\d+)px", a["style"])[1]) for a in page.of("img")]
  assert widths == [566, 499, 499]
  assert max(least) <= 390 - 2 * 16  # these three need not scroll
  assert not any("wide" in attributes["class"] for attributes in scrolling)


def test_what_is_wider_than_a_phone_says_that_it_scrolls(tmp_path):
  page = report.Report("title", tmp_path)
  numbers = [["a name that may be broken into lines", *["0.1234 to 0.5678"] * 2]]
  page.table(("of what", "AUROC", "FPR"), numbers)
  page.table(("of what", "AUROC", "FPR", "flagged"), [[*numbers[0], "0.1234 to 0.5678"]])
  page.table(("a", "b"), [["text " * 9] * 2], prose=True)
  page.figure("narrow", Figure(figsize=(5.9, 2.0)), "caption")
  page.figure("wide", Figure(figsize=(5.9, 2.0)), "caption", least=96)
  parsed = Page(page.write().read_text())
  boxes = [a["class"] for a in parsed.of("div")]
  assert boxes == ["scroll", "scroll wide", "scroll", "scroll", "scroll wide"]
  assert parsed.texts.count(report.HINT) == 2
  assert [image["style"] for image in parsed.of("img")] == ["min-width: 354px", "min-width: 566px"]


def test_the_verdict_of_a_check_is_broken_into_lines_and_long_rows_become_lists(table, tmp_path):
  findings = [{"check": "enough steps", "value": 7.0, "passed": False, "message": "Too few."}]
  page = reported(table[0], tmp_path, health=findings)
  assert [a.get("class") for a in page.of("table") if "class" in a] == ["prose", "prose"]
  assert ["enough steps", "7", "Too few."] in page.rows
  lists = report.Report("title", tmp_path)
  lists.table(("a", "b", "c", "d"), [["text"] * 4], prose=True)
  page = Page(lists.write().read_text())
  assert [a["class"] for a in page.of("table")] == ["prose records"]
  assert [a["data-head"] for a in page.of("td")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
  ("rates", "sentence"),
  [
    ((0.007, 0.61), "Finds 61 % of the anomalies at 0.7 % false alarms."),
    ((0.2, 1.0), "Finds 100 % of the anomalies at 20 % false alarms, more than the 5 % stated."),
    (
      (0.0, 0.9996),
      "Finds over 99.9 % of the anomalies at 0 % false alarms, fewer than the 5 % stated.",
    ),
    (
      (0.052, None),
      "Flags 5.2 % of the typical records; how many anomalies it finds is unknown, "
      "because the test set has none.",
    ),
    (
      (None, 0.0004),
      "Finds under 0.1 % of the anomalies; at how many false alarms is unknown, "
      "because the test set has no typical records.",
    ),
  ],
)
def test_a_sentence_of_conclusion_claims_no_more_than_was_measured(rates, sentence):
  names = ("realised_fpr", "recall")
  decision = {name: rate for name, rate in zip(names, rates, strict=True) if rate is not None}
  ends = {0.007: [0.001, 0.06], 0.2: [0.1, 0.3], 0.0: [0.0, 0.01], 0.052: [0.04, 0.07]}
  result = {
    "decision": {"stated_fpr": 0.05, **decision},
    "intervals": {"decision": {"realised_fpr": ends.get(rates[0])}},
  }
  assert evaluated.conclusion(result) == sentence
  result["decision"]["stated_fpr"] = None  # of a threshold that states nothing
  assert " stated" not in evaluated.conclusion(result)


def test_the_conclusion_comes_first(table):
  _, page = table
  (place,) = (i for i, (tag, a) in enumerate(page.tags) if a.get("class") == "conclusion")
  assert [tag for tag, _ in page.tags[:place]][-1] == "h1"
  assert any(text.startswith("Finds 90 % of the anomalies at 20 %") for text in page.texts)


def test_it_says_what_was_trained_on_what(table):
  _, page = table
  rows = dict(row for row in page.rows if len(row) == 2)
  assert rows["method"] == "First"
  assert rows["data"] == "made <by> hand"
  assert rows["training records"] == "1,234"
  assert rows["radius"] == "2.5"
  assert rows["tested on"] == "20 typical and 20 anomalous records"
  assert rows["versions"] == "jax 1.2.3"


def test_every_metric_has_its_interval(table):
  _, page = table
  assert ["metric", "value", "95 % interval"] in page.rows
  start = page.rows.index(["metric", "value", "95 % interval"])
  shown = page.rows[start + 1 : start + 1 + len(evaluated.METRICS)]
  assert [row[0] for row in shown] == list(evaluated.METRICS.values())
  assert all(re.fullmatch(r"\d\.\d{4} to \d\.\d{4}", row[2]) for row in shown)
  assert any("50 bootstrap draws" in text for text in page.texts)


def test_the_most_anomalous_rows_are_listed(table):
  splits, page = table
  start = page.rows.index(["test row", "score", "p value", "truly"]) + 1
  assert page.rows[start] == ["33", "50", f"{1 / 201:.2g}", "anomaly"]
  ranked = np.argsort(-splits.x_test[:, 0])[:10]
  assert [row[0] for row in page.rows[start : start + 10]] == [str(row) for row in ranked]


def test_rows_have_the_reason_of_a_detector_that_keeps_typical_values(table, tmp_path):
  splits, _ = table
  page = reported(splits, tmp_path, explains=True, feature_names=list(splits.feature_names))
  start = page.rows.index(["test row", "score", "p value", "truly", "why"]) + 1
  assert page.rows[start][:4] == ["33", "50", f"{1 / 201:.2g}", "anomaly"]
  assert page.rows[start][4].startswith("height 50 (typical up to ")
  assert any(text.startswith("Why: the fewest columns") for text in page.texts)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_drawn(channels, tmp_path):
  rng = np.random.default_rng(0)
  x = rng.uniform(size=(60, 8, 8, channels)).astype(np.float32)
  splits = splits_of(x[:30], x[30:], image_shape=(8, 8) if channels == 1 else (8, 8, 3))
  page = reported(splits, tmp_path)
  pictures = [a for a in page.of("img") if "style" not in a]
  assert len(pictures) == 20
  scores = x[30:].reshape(30, -1)[:, 0]
  order = np.argsort(-scores)
  for attributes, row in zip(pictures[:10], order, strict=False):
    name = "anomaly" if row >= 15 else "typical"
    assert attributes["alt"] == f"{name}: {scores[row]:.4g}"
    encoded = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
    drawn = mpl_image.imread(io.BytesIO(encoded))[..., :3]
    image = x[30 + row]
    if channels == 3:
      np.testing.assert_allclose(drawn, image, atol=1 / 255)
    else:
      unit = (image - image.min()) / np.ptp(image)
      np.testing.assert_allclose(drawn, np.broadcast_to(unit, (8, 8, 3)), atol=0.02)


def test_series_are_drawn_as_maps_and_short_ones_listed(tmp_path):
  rng = np.random.default_rng(0)
  page = reported(splits_of(*rng.normal(size=(2, 40, 12, 9))), tmp_path)
  assert len([a for a in page.of("img") if "style" not in a]) == 20
  page = reported(splits_of(*rng.normal(size=(2, 40, 12, 2))), tmp_path)
  assert len([a for a in page.of("img") if "style" not in a]) == 0
  assert ["test row", "score", "p value", "truly"] in page.rows


def test_a_wide_figure_keeps_its_text_readable(tmp_path):
  page = report.Report("title", tmp_path)
  page.figure("wide", Figure(figsize=(10.0, 2.0)), "caption")
  parsed = Page(page.write().read_text())
  (image,) = parsed.of("img")
  assert image["style"] == "min-width: 600px"
  assert parsed.of("figure") == [{"style": "width: 960px"}]
  assert (tmp_path / "wide.png").stat().st_size > 100


def test_layers_have_a_table(tmp_path):
  rng = np.random.default_rng(0)
  x = rng.uniform(0.1, 1.0, size=(60, 2)).astype(np.float32)
  splits = splits_of(x[:20], x[20:])

  def told(variables, x, threshold):
    limits = [np.float32(0.3) + 0 * x, np.float32(0.8) + 0 * x]
    return {"layer_error": x, "layer_low": limits[0], "layer_high": limits[1]}

  detector = detector_jax.Detector.create(
    first, {}, Identity(), (2,), threshold=0.7, report_fn=told, metadata={"layers": ["a", "b"]}
  )
  page = report.Report("title", tmp_path)
  layers.add(page, splits, x[20:, 0], detector)
  rows = Page(page.write().read_text()).rows
  assert rows[0] == [
    "layer",
    "typical errors",
    "typical",
    "anomalous",
    "too small",
    "AUROC of the error",
  ]
  typical, anomalous = x[20:40], x[40:]
  for place, name in enumerate("ab"):
    beyond = [
      100 * np.mean((part[:, place] < 0.3) | (part[:, place] > 0.8))
      for part in (typical, anomalous)
    ]
    assert rows[1 + place] == [
      name,
      "0.3 to 0.8",
      *(f"{share:.1f} %" for share in beyond),
      f"{100 * np.mean(anomalous[:, place] < 0.3):.1f} %",
      f"{np.mean(anomalous[:, place][:, None] > typical[:, place]):.4f}",
    ]
  shares = [f"{100 * np.mean(part[:, 0] > 0.7):.1f} %" for part in (typical, anomalous)]
  assert rows[3] == ["any layer", "", *shares, "", ""]
