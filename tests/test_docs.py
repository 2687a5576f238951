"""The site's own code: links, settings and docstrings; the build itself is `make docs`."""

import importlib.util
import pathlib
import sys

import pytest

from launch import data

pytest.importorskip("mkdocs", reason="the extra docs is not installed: make docs")

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load(name: str):
  spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


hooks, docstrings = load("hooks"), load("docstrings")


@pytest.mark.parametrize(
  ("uri", "link", "there"),
  [
    ("index.md", "[a](docs/speed.md#scoring)", "[a](speed.md#scoring)"),
    ("index.md", "![a](benchmarks/results/figure5.png)", "![a](benchmarks/results/figure5.png)"),
    ("speed.md", "[a](../README.md#results)", "[a](index.md#results)"),
    ("speed.md", "[a](../benchmarks/results/x.json)", "[a](benchmarks/results/x.json)"),
    ("reference/configs.md", "[a](../speed.md)", "[a](../speed.md)"),
    ("speed.md", "[the folder](../benchmarks/results)", "the folder"),
    ("speed.md", "[a](https://example.org/docs/x.md)", "[a](https://example.org/docs/x.md)"),
    ("speed.md", "[a](#scoring)", "[a](#scoring)"),
  ],
)
def test_links_of_the_repository_become_links_of_the_site(uri, link, there):
  assert hooks.relinked(link, uri) == there


def test_every_file_source_and_method_is_in_the_reference_with_its_fields():
  text = hooks.configurations()
  for path in (ROOT / "configs").glob("[a-z]*.py"):
    assert f"### {path.name}\n" in text
  for source in data.SOURCES:
    assert f"### `{source.__name__}`\n" in text
  assert "| `drocc.radius` | `2.5` |" in text.partition("### drocc_table2.py")[2]
  assert "| `drocc.radius` | `None` | " in text.partition("### `launch.methods.drocc.Config`")[2]
  assert "| `data.label` | `''` | " in text.partition("### `Files`")[2]


def test_formulas_and_literal_blocks_become_blocks():
  text = "A.\n\n.. math::\n  a = b\n\nSo :math:`c` holds, as in::\n\n  h <- 0\n\nEnd."
  expected = "A.\n\n```tex\na = b\n```\n\nSo `c` holds, as in:\n\n```text\nh <- 0\n```\n\nEnd."
  assert docstrings.as_markdown(text) == expected
