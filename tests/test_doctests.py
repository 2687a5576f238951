"""The examples in docstrings of the three libraries say what is so."""

import doctest
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(
  ".".join(path.relative_to(ROOT).with_suffix("").parts)
  for library in ("detector_jax", "drocc_jax", "fingerprint_jax")
  for path in (ROOT / library).glob("*.py")
  if ">>> " in path.read_text()
)


def test_there_are_examples_of_both_kinds():
  assert {"detector_jax.metrics", "drocc_jax.projections"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
  found = doctest.testmod(importlib.import_module(name))
  assert found.attempted > 0
  assert found.failed == 0
