"""Markers of pages: numbers, tables and outputs, by hand."""

import json

import pytest

from benchmarks import readme, snippets

CONTENT = {
  "launch.score": {".csv": 1234567},
  "records": [
    {
      "row": "mean",
      "method": "LOF",
      "column": "last",
      "metric": "auroc",
      "mean": 90.55,
      "std": 0.2,
      "seeds": 5,
      "paper": None,
    },
    {
      "row": "mean",
      "method": "DROCC, released",
      "column": "last",
      "metric": "auroc",
      "mean": 64.8,
      "std": 3.4,
      "seeds": 5,
      "paper": 70.25,
    },
  ],
}


@pytest.fixture
def results(tmp_path):
  (tmp_path / "some.json").write_text(json.dumps(CONTENT))
  return tmp_path


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ('"launch.score".".csv"', 1234567),
    ("records.1.mean", 64.8),
    ("records.[method=LOF].seeds", 5),
    ("records.[row=mean;method=DROCC, released].std", 3.4),
  ],
)
def test_keys_lead_to_values(key, value):
  assert readme.resolve(key, CONTENT) == value


def test_a_key_that_fits_two_records_is_refused():
  with pytest.raises(KeyError, match="2 records fit"):
    readme.resolve("records.[row=mean].mean", CONTENT)


def test_numbers_are_written_anew(results):
  text = (
    "has 1<!--= some records.[method=LOF].mean .2f --> and "
    '7.0<!--= some "launch.score".".csv" .2f x1e-6 --> of 9,9<!--= some records.0.seeds d -->.'
  )
  after = readme.refreshed(text, results)
  assert readme.NUMBER.sub(lambda m: m["text"], after) == "has 90.55 and 1.23 of 5."
  assert readme.refreshed(after, results) == after


def test_a_marker_without_its_value_is_named(results):
  with pytest.raises(KeyError, match="records fit"):
    readme.refreshed("1<!--= some records.[method=none].mean .1f -->", results)
  with pytest.raises(KeyError, match="other records"):
    readme.refreshed("1<!--= other records.0.mean .1f -->", results)


def test_a_table_has_the_cells_of_its_records(results):
  table = readme.Summary(
    "some",
    {"LOF": {"method": "LOF"}, "ours": {"method": "DROCC, released"}, "none": {"method": "x"}},
    {"AUROC": {"metric": "auroc", "digits": 2}, "paper": {"metric": "auroc", "field": "paper"}},
  )
  rows = CONTENT["records"]
  rows[0]["paper"] = 91.0
  (results / "some.json").write_text(json.dumps({"records": rows}))
  assert table.table(results).splitlines() == [
    "|  | AUROC | paper |",
    "| --- | --- | --- |",
    "| LOF | 90.55 ± 0.20 | 91.0 |",
    "| ours | 64.80 ± 3.40 | 70.2 |",
    "| none |  |  |",
  ]


PAGE = """
```python
x = 2
print("x is", x)
```

```text
x is 7
```

```python
x += 1
```

Words.

```text
no output of it
```

```python
import pathlib
pathlib.Path("left").write_text("")
print(x, len(list(pathlib.Path().iterdir())))
```

```text
```
"""


def test_blocks_run_in_one_namespace_and_an_empty_folder():
  after = snippets.with_outputs(PAGE)
  assert after == PAGE.replace("x is 7", "x is 2").replace("```text\n```", "```text\n3 1\n```")


def test_a_block_that_fails_is_an_error():
  with pytest.raises(RuntimeError, match="ZeroDivisionError"):
    snippets.run(["1 / 0"])


@pytest.mark.parametrize(
  ("shown", "printed", "same"),
  [
    ("4% of 178 flagged", "9% of 178 flagged", True),
    ("4% of 178 flagged", "10% of 178 flagged", False),
    ("4% of 178 flagged", "4% of 178 found", False),
    ("error 0.266 of [0.01, 1]", "error 0.3 of  [0.02, 1]", True),
    ("error 0.266", "error 0.41", False),
    ("alarm after 21 records", "alarm after 28 records", False),
    ("alarm after 21 records", "alarm after 27 records", True),
    ("one line", "one line\nand another", False),
  ],
)
def test_outputs_may_differ_by_the_stated_tolerance(shown, printed, same):
  assert (snippets.differs(shown, printed) == "") is same
