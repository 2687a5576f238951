"""The site's own code: links, settings and docstrings; the build itself is `make docs`."""

import dataclasses
import importlib.util
import pathlib
import sys

import pytest

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


@dataclasses.dataclass
class Inner:
  """Some.

  Attributes:
    width: of it, ``> 0``,
      in metres | feet.
  """

  width: float = 1.0


@dataclasses.dataclass
class Outer(Inner):
  """More.

  Attributes:
    inner: the part.
    name: what people call it.
  """

  inner: Inner = dataclasses.field(default_factory=Inner)
  name: str = "x"


def test_every_field_has_its_value_and_its_line():
  width = "Of it, `> 0`, in metres \\| feet."
  assert list(hooks.leaves(Outer())) == [
    ("width", 1.0, width),
    ("inner.width", 1.0, width),
    ("name", "x", "What people call it."),
  ]


def test_formulas_and_literal_blocks_become_blocks():
  text = "A.\n\n.. math::\n  a = b\n\nSo :math:`c` holds, as in::\n\n  h <- 0\n\nEnd."
  expected = "A.\n\n```tex\na = b\n```\n\nSo `c` holds, as in:\n\n```text\nh <- 0\n```\n\nEnd."
  assert docstrings.as_markdown(text) == expected
