"""README and the docs: short, true to the JSON files, and every block of code runs."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import readme, snippets

ROOT = readme.ROOT
README = (ROOT / "README.md").read_text()
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
# Of the year, the licence, a set's name, and the sizes that the command beside them sets.
SETTINGS = {"2020", "2.0", "10", "100,000", "1,000", "20"}
# What blocks of other pages take as given.
GIVEN = """
import numpy as np, jax, jax.numpy as jnp
from flax import linen as nn
rng = np.random.default_rng(0)
X_train = rng.normal(size=(600, 3)).astype(np.float32)
X_new, X_typical = rng.normal(size=(2, 200, 3)).astype(np.float32)
X, y = np.concatenate([X_train, X_train[:40] + 6.0]), np.repeat([1, -1], [600, 40])
network = nn.Sequential((nn.Dense(8), jnp.tanh, nn.Dense(2)))
variables = network.init(jax.random.key(0), X_train[:1])
sizes, zips = rng.normal(size=600), np.repeat([10115, 450, 120], 200)
frame = [{"id": i, "zip": z, "size": s} for i, (z, s) in enumerate(zip(zips, sizes))]
from drocc_jax import DROCC
detector = DROCC(epochs=2, random_state=0).fit(X_train).detector_
"""


def pages():
  return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in readme.pages()]


def test_readme_has_at_most_150_lines():
  assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("path", pages())
def test_numbers_and_tables_are_those_of_the_json_files(path):
  text = path.read_text()
  assert readme.refreshed(text) == text, "run python -m benchmarks.readme --run=false"
  assert text.count("<!--=") == len(readme.NUMBER.findall(text)), "a marker that none reads"
  assert not re.search(r"^ *<!--=", text, re.MULTILINE), "Markdown ends a paragraph there"


def test_every_number_of_readme_has_a_marker():
  text = snippets.FENCE.sub("", README)
  text = readme.TABLE.sub("", text)
  text = readme.NUMBER.sub("", text)
  text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
  assert set(re.findall(r"\d[\d.,]*\d|\d", text)) <= SETTINGS


@pytest.mark.parametrize("path", pages())
def test_links_lead_to_files(path):
  missing = [
    target for target in LINK.findall(path.read_text()) if not (path.parent / target).exists()
  ]
  assert missing == []


@pytest.mark.parametrize("path", pages())
def test_modules_and_configs_that_are_named_exist(path):
  text = path.read_text()
  for name in re.findall(r"\bconfigs/[a-z]\w+\.py", text):
    assert (ROOT / name).is_file(), name
  for name in re.findall(r"python -m ((?:launch|benchmarks|detector_jax|tests)[\w.]*)", text):
    place = ROOT / name.replace(".", "/")
    assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name


@pytest.mark.slow
def test_readme_and_the_tutorial_print_what_they_show():
  running = readme.pages_that_run()
  assert [path.name for path in running] == ["README.md", "tutorial.md"]
  for path in running:
    text = path.read_text()
    assert len(snippets.outputs(text)) == len(snippets.blocks(text, "python")), (
      "a block shows nothing"
    )
    for shown, printed in snippets.printed_by(text):
      assert not snippets.differs(shown.body, printed), "run python -m benchmarks.readme"


@pytest.mark.slow
def test_blocks_of_the_other_pages_run():
  codes = [
    block.body
    for path in readme.pages()
    if path.name in {"files.md", "limited_negatives.md", "neuralfp.md"}
    for block in snippets.blocks(path.read_text(), "python")
    if "torch" not in block.body
  ]
  assert len(codes) == 7
  printed = snippets.run([GIVEN, *codes])
  assert "record 0: " in "".join(printed)


@pytest.fixture
def clone(tmp_path) -> pathlib.Path:
  """A folder that looks like a clone, with the files that README's commands read."""
  for name in ("launch", "configs", "benchmarks", "detector_jax", "drocc_jax", "fingerprint_jax"):
    (tmp_path / name).symlink_to(ROOT / name)
  rng = np.random.default_rng(0)
  for name, anomalies in (("a", 0), ("b", 20), ("new", 20)):
    typical = rng.normal(size=(150, 3))
    x = np.concatenate([typical, typical[:anomalies] + 8.0])
    labels = np.repeat([0, 1], [len(typical), anomalies])
    columns = np.column_stack([x, labels]) if name != "new" else x
    header = "width,height,weight" + ",target" * (name != "new")
    np.savetxt(tmp_path / f"{name}.csv", columns, delimiter=",", header=header, comments="")
  return tmp_path


@pytest.mark.slow
def test_the_three_commands_for_own_files(clone):
  (commands,) = [b.body for b in snippets.blocks(README, "sh") if "launch.train" in b.body]
  python = str(pathlib.Path(sys.executable).parent)
  environment = {**os.environ, "PATH": python + os.pathsep + os.environ["PATH"]}
  environment["PYTHONPATH"] = str(clone)
  done = subprocess.run(
    ["sh", "-e", "-c", commands],
    cwd=clone,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  metrics = json.loads((clone / "runs/mine/metrics.json").read_text())
  assert metrics["decision"]["recall"] > 0.9
  assert (clone / "runs/mine/report.html").is_file()
  lines = (clone / "scores.csv").read_text().splitlines()
  assert len(lines) == 1 + 170


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_has_the_two_commands():
  (commands,) = [b.body for b in snippets.blocks(README, "sh") if b.body.startswith("make")]
  targets = [line.split()[1] for line in commands.splitlines()]
  assert targets == ["demo", "test"]
  told = subprocess.run(
    ["make", "--dry-run", "--always-make", *targets],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert "-m benchmarks.demo" in told
  assert "-m pytest" in told


def test_the_citations_are_those_of_the_citation_file():
  (entries,) = [block.body for block in snippets.blocks(README, "bibtex")]
  titles = re.findall(r"^  title\s*= \{(.*)\},", entries, re.MULTILINE)
  known = re.findall(r'title: "(.*)"', (ROOT / "CITATION.cff").read_text())
  assert len(titles) == 2
  for title in titles:
    assert re.sub("[{}]", "", title) in known
