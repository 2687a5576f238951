"""Schemas: the kind of every column, its coordinates by hand, and what is refused."""

import datetime
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from detector_jax import schema

ROWS = 24
TABLE = {
  "id": [f"tx{row}" for row in range(ROWS)],
  "number": np.arange(ROWS) ** 2.0,
  "text": [str(row % 7) for row in range(ROWS)],
  "colour": ["red", "blue", "red"] * 8,
  "paid": ["yes", "No"] * 12,
  "at": ["2026-03-02T06:00:00"] * ROWS,
  "hole": [1.0, None, 3.0, 5.0] * 6,
  "rare": [*(1.5 * row for row in range(23)), None],
  "row": list(range(ROWS)),
  "empty": [None] * ROWS,
}
KINDS = {
  "id": "drop",
  "number": "number",
  "text": "number",
  "colour": "category",
  "paid": "boolean",
  "at": "time",
  "hole": "number",
  "rare": "number",
  "row": "drop",
  "empty": "drop",
}


@pytest.fixture
def learned() -> schema.Schema:
  return schema.learn(TABLE)


def column(learned: schema.Schema, name: str) -> schema.Column:
  return next(each for each in learned.columns if each.name == name)


def encoded(learned: schema.Schema, **changes) -> dict[str, float]:
  """The first record of the table, changed, as coordinates by name."""
  record = {name: [values[0]] for name, values in TABLE.items()}
  x = learned.encode(record | {name: [value] for name, value in changes.items()})
  return dict(zip(learned.features, x[0].tolist(), strict=True))


def test_kinds_are_guessed_by_the_stated_rules(learned, caplog):
  assert {each.name: each.kind for each in learned.columns} == KINDS
  schema.learn(TABLE)
  (said,) = caplog.messages
  assert "'id' (text, 24 different values)" in said
  assert "'row' (counts the rows)" in said
  assert "'empty' (without any value)" in said
  assert learned.wanted == ("number", "text", "colour", "paid", "at", "hole", "rare")


def test_columns_know_what_training_had(learned):
  assert column(learned, "colour").categories == ("red", "blue")
  assert column(learned, "colour").counts == (16, 8)
  hole = column(learned, "hole")
  assert (hole.missing, hole.fill, hole.low, hole.high) == (0.25, 3.0, 1.0, 5.0)


def test_a_schema_is_a_line_for_each_column(learned):
  assert str(learned).splitlines() == [
    "id: left out, text, 24 different values",
    "number: number from 0 to 529",
    "text: number from 0 to 6",
    "colour: category of 2 (red, blue)",
    "paid: boolean, mostly false",
    "at: time from 2026-03-02 06:00 to 2026-03-02 06:00",
    "hole: number from 1 to 5, 25.0% missing",
    "rare: number from 0 to 33, 4.2% missing",
    "row: left out, counts the rows",
    "empty: left out, without any value",
  ]
  many = [f"c{i}" for i in range(30) for _ in range(3)]
  said = str(schema.learn({"c": many, "on": ["yes"] * 90}))
  assert said.endswith("c0, c1, c10, c11, c12, ...)\non: boolean, always true")
  assert said.startswith("c: category of 20 and others (")


def test_coordinates_by_hand(learned):
  """The second of March 2026 is a Monday; six in the morning is a quarter of a day."""
  got = encoded(learned, number=7, text="3.5", colour="blue", paid="no", hole=4.0)
  assert got == pytest.approx(
    {
      "number": 7.0,
      "text": 3.5,
      "colour=red": 0.0,
      "colour=blue": 1.0,
      "colour=other": 0.0,
      "paid": 0.0,
      "at day sin": 1.0,
      "at day cos": 0.0,
      "at week sin": np.sin(2 * np.pi / 28),
      "at week cos": np.cos(2 * np.pi / 28),
      "hole": 4.0,
      "rare": 0.0,
      "rare missing": 0.0,
    },
    abs=1e-6,
  )


def test_missing_cells_are_filled_where_training_had_some_and_marked_where_few(learned):
  got = encoded(learned, hole=None)
  assert (1.0 < got["hole"] < 5.0, "hole missing" in got) == (True, False)
  got = encoded(learned, rare=None)
  assert (0.0 < got["rare"] < 33.0, got["rare missing"]) == (True, 1.0)
  for name in ("number", "colour", "at", "paid"):
    values = encoded(learned, **{name: None})
    assert any(np.isnan(value) for key, value in values.items() if key.startswith(name))


def test_a_category_that_training_did_not_have_is_another(learned):
  got = encoded(learned, colour="green")
  assert (got["colour=red"], got["colour=blue"], got["colour=other"]) == (0.0, 0.0, 1.0)


def test_rare_categories_share_one_coordinate():
  values = [f"c{i}" for i in range(30) for _ in range(3)] + ["c7"]
  (found,) = schema.learn({"c": values}).columns
  assert (len(found.categories), found.categories[0], found.others) == (20, "c7", 30)
  assert sum(found.counts) + found.others == len(values)


def test_missing_categories_are_one_of_their_own():
  learned = schema.learn({"c": ["a", "b", None, "a"] * 3})
  np.testing.assert_array_equal(
    learned.encode({"c": ["a", None, "new"]}),
    [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
  )
  assert learned.features == ("c=a", "c=b", "c=missing", "c=other")


def test_kinds_can_be_set():
  kinds = {"text": "category", "row": "number", "colour": "drop", "at": "elapsed"}
  learned = schema.learn(TABLE, kinds)
  assert {name: column(learned, name).kind for name in kinds} == kinds
  assert "at elapsed" in learned.features
  later = {name: [values[0]] for name, values in TABLE.items()} | {"at": ["2026-03-02T06:01:00"]}
  assert learned.encode(later)[0, learned.features.index("at elapsed")] == 60.0
  assert column(learned, "text").categories[0] == "0"


def test_a_number_on_a_log_scale(learned):
  values = [0.0, -3.0, 3.0, 30.0, 300.0] * 5 + [None]
  (column,) = schema.learn({"c": values}, {"c": "log"}).columns
  assert (column.unit, column.whole, column.fill, column.low) == (16.5, True, 3.0, -3.0)
  assert column.describe() == "number from -3 to 300, on a log scale, 3.8% missing"
  made = schema.learn({"c": values}, {"c": "log"})
  x = made.encode({"c": [16.5 * np.sinh(1.0), "-16.5", 1.65e6, None]})
  assert x[:, 0] == pytest.approx([1.0, -np.arcsinh(1.0), np.log(2e5), x[3, 0]])
  assert column.value(x[:3, 0]) == pytest.approx([16.5 * np.sinh(1.0), -16.5, 1.65e6])
  assert made.features == ("c", "c missing")
  with pytest.raises(ValueError, match="column 'c' holds 'x' in record 0, no number"):
    made.encode({"c": ["x"]})
  again = schema.Schema.from_json(json.loads(json.dumps(made.to_json())))
  np.testing.assert_array_equal(again.encode({"c": values}), made.encode({"c": values}))


def frames() -> dict:
  frame = pd.DataFrame(
    {
      "whole": pd.array([1, None, 3] * 8, "Int64"),
      "when": pd.date_range("2026-01-01", periods=24, freq="7h"),
      "day": [datetime.date(2026, 1, 1 + row % 5) for row in range(24)],
      "kind": pd.Categorical(["x", "y", "x", None] * 6),
      "flag": [True, False] * 12,
      "code": [1.0, 2.0, 3.0] * 8,
    }
  )
  frame.loc[3, "when"] = pd.NaT
  return {
    "pandas": frame,
    "arrow": pa.Table.from_pandas(frame, preserve_index=False),
    "dicts": frame.to_dict("records"),
    "text": frame.astype(str).where(frame.notna(), "").to_dict("records"),
  }


@pytest.mark.parametrize("form", ["arrow", "dicts", "text"])
def test_every_form_of_a_table_gives_the_same_numbers(form):
  every, kinds = frames(), {"code": "category"}
  want = schema.learn(every["pandas"], kinds)
  assert [each.kind for each in want.columns] == [
    "number",
    "time",
    "time",
    "category",
    "boolean",
    "category",
  ]
  np.testing.assert_array_equal(want.encode(every[form]), want.encode(every["pandas"]))
  if form != "text":  # there, day and when are text of two forms
    assert schema.learn(every[form], kinds).to_json() == want.to_json()


def test_json_and_back(learned):
  again = schema.Schema.from_json(json.loads(json.dumps(learned.to_json())))
  assert again == learned


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (3, "not a list of columns"),
    ([{"name": "a"}], "not a list of columns"),
    ([{"name": "a", "kind": "number", "x": 1}], "not a list of columns"),
    ([{"name": "a", "kind": "god"}], "column 'a' of the schema is of no known kind"),
    ([{"name": "a", "kind": "number", "fill": "x"}], "is of no known kind"),
    ([{"name": "a", "kind": "log", "unit": 0}], "is of no known kind"),
    ([{"name": "a", "kind": "category", "categories": [1]}], "has names that are no text"),
  ],
)
def test_what_is_no_schema_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    schema.Schema.from_json(values)


def test_all_problems_are_told_at_once():
  changed = TABLE | {"text": ["12x", *TABLE["text"][1:]], "at": [*TABLE["at"][1:], "noon"]}
  with pytest.raises(ValueError, match="no column 'zip'") as raised:
    schema.learn(changed, {"zip": "category", "colour": "hue", "paid": "number"})
  for part in (
    "column 'colour' cannot be 'hue', one of number, log, category",
    "column 'text' holds '12x' in record 0 where nearly all others are numbers",
    "column 'at' holds 'noon' in record 23 where nearly all others are times",
    "column 'paid' holds 'yes' in record 0, no number",
  ):
    assert part in str(raised.value)


def test_cells_of_another_kind_are_refused_or_left_out(learned):
  with pytest.raises(ValueError, match="column 'number' holds 'many' in record 0, no number"):
    encoded(learned, number="many")
  record = {name: [values[0]] * 2 for name, values in TABLE.items()} | {"number": ["many", 2]}
  got = learned.encode(record, strict=False)
  assert np.isnan(got[0]).tolist() == [name == "number" for name in learned.features]
  assert np.isfinite(got[1]).all()


def test_a_column_that_is_not_there_is_named(learned):
  with pytest.raises(ValueError, match="lack 'colour', which the detector was trained on"):
    learned.encode({name: values for name, values in TABLE.items() if name != "colour"})
  with pytest.raises(ValueError, match="have no names"):
    schema.learn(np.ones((3, 2)))
  with pytest.raises(ValueError, match="No column is left"):
    schema.learn({"id": TABLE["id"]})


def test_categories_that_are_called_as_the_coordinates_for_the_rest():
  learned = schema.learn({"c": ["a", "other", "missing", None, "a", "missing"] * 2})
  assert learned.features == ("c=missing", "c=a", "c=other")
  np.testing.assert_array_equal(
    learned.encode({"c": ["a", "other", "missing", None, "new"]}),
    [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]],
  )
  with pytest.raises(ValueError, match="Two coordinates would be named 'c=a'; rename a column"):
    schema.learn({"c": ["a", "b"] * 3, "c=a": [1.0, 5.0] * 3})
