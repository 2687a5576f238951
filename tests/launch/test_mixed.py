"""Tables of text, dates and missing cells: from a file to scores, the same ones everywhere."""

import csv
import dataclasses
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest

import detector_jax
from detector_jax.__main__ import main
from drocc_jax import DROCC
from drocc_jax.registry import NetworkConfig
from launch import evaluation, run, scoring, watching
from launch.data import DataError, Files, mixed
from launch.methods.drocc import Config

N = 200


def payments(n: int, seed: int) -> pd.DataFrame:
  rng = np.random.default_rng(seed)
  frame = pd.DataFrame(
    {
      "id": [f"tx{seed}{row}" for row in range(n)],
      "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.uniform(0, 900, n), unit="h"),
      "channel": rng.choice(["pos", "web", "atm"], n, p=[0.6, 0.3, 0.1]),
      "zip": rng.choice(["00120", "00450", "10115"], n),
      "present": rng.random(n) < 0.7,
      "amount": np.exp(rng.normal(3.0, 1.0, n)).round(2),
      "age": np.where(rng.random(n) < 0.2, np.nan, rng.normal(40.0, 9.0, n).round(1)),
    }
  )
  frame["at"] = frame["at"].dt.round("s").dt.strftime("%Y-%m-%d %H:%M:%S")
  return frame


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run on a CSV, evaluated, and the tables that went in."""
  folder = tmp_path_factory.mktemp("mixed")
  train, test = payments(N, 0), payments(60, 1)
  test.loc[40:, "amount"] = 1e5
  train.to_csv(folder / "train.csv", index=False)
  test.assign(fraud=["no"] * 40 + ["yes"] * 20).to_csv(folder / "test.csv", index=False)
  source = Files(
    train=str(folder / "train.csv"),
    test=str(folder / "test.csv"),
    label="fraud",
    columns="zip:category",
  )
  config = Config(data=source, network=NetworkConfig("mlp", (8,)), epochs=4, checkpoints=1)
  run.train(config, folder / "run")
  result = evaluation.evaluate(folder / "run")
  return folder, test, result


def test_a_file_as_it_comes_becomes_a_detector(trained):
  folder, _, result = trained
  detector = detector_jax.load(folder / "run" / "detector")
  kinds = {column.name: column.kind for column in detector.schema.columns}
  assert kinds == {
    "id": "drop",
    "at": "time",
    "channel": "category",
    "zip": "category",
    "present": "boolean",
    "amount": "number",
    "age": "number",
  }
  assert "zip=00120" in detector.feature_names
  assert "age" in detector.feature_names
  assert result["labels"] == {"typical": 40, "anomalous": 20}
  assert result["metrics"]["auroc"] > 0.9


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".feather"])
def test_a_file_scores_as_its_table_does(trained, tmp_path, ending):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  table = test[test.columns[::-1]].assign(more="?")
  path, output = tmp_path / f"new{ending}", tmp_path / "scores.csv"
  write = {".csv": table.to_csv, ".parquet": table.to_parquet, ".feather": table.to_feather}[ending]
  write(path, index=False) if ending == ".csv" else write(path)
  tally = scoring.score_input(detector, str(path), output)
  assert (tally.rows, tally.bad) == (60, 0)
  got = pd.read_csv(output)["score"].to_numpy()
  np.testing.assert_array_equal(got.astype(np.float32), detector.score(test))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_file_of_another_encoding_is_read_and_scored(tmp_path, encoding):
  frame = payments(N, 0).assign(channel=np.where(np.arange(N) % 2, "Café", "Büro"))
  frame = frame.rename(columns={"zip": "Straße"})
  frame.assign(bad=0).to_csv(tmp_path / "x.csv", index=False, encoding=encoding)
  source = Files(train=str(tmp_path / "x.csv"), label="bad", columns="auto", encoding=encoding)
  splits = source.load()
  assert {"channel=Café", "channel=Büro", "Straße"} <= set(splits.feature_names)
  path = str(tmp_path / "x.csv")
  read = mixed.read_mixed_pieces(path, splits.schema, keep=["channel"], encoding=encoding)
  pieces = list(read)
  np.testing.assert_array_equal(np.concatenate([piece.x for piece in pieces]), splits.x_train)
  assert pieces[0].kept["channel"].to_pylist()[:3] == ["Büro", "Café", "Büro"]
  with pytest.raises(DataError, match=r"UTF-8|utf-8"):
    dataclasses.replace(source, encoding="utf-8").load()
  with pytest.raises(DataError, match="There is no encoding 'klingon'; take one of Python's"):
    dataclasses.replace(source, encoding="klingon").load()


def test_standard_input_scores_as_a_file_does(trained, tmp_path, monkeypatch):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  raw = io.BytesIO(test.to_csv(index=False).encode())
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
  scoring.score_input(detector, "-", tmp_path / "scores.csv")
  got = pd.read_csv(tmp_path / "scores.csv")["score"].to_numpy()
  np.testing.assert_array_equal(got.astype(np.float32), detector.score(test))


def test_the_core_package_scores_the_same_file(trained, tmp_path, capsys):
  folder, test, _ = trained
  test.to_csv(tmp_path / "new.csv", index=False)
  assert main(["score", str(folder / "run" / "detector"), str(tmp_path / "new.csv")]) == 0
  rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
  want = detector_jax.load(folder / "run" / "detector").score(test)
  np.testing.assert_allclose([float(row["score"]) for row in rows], want, rtol=1e-6)
  assert main(["info", str(folder / "run" / "detector")]) == 0
  told = capsys.readouterr().out
  assert "column id: left out, text, 200 different values" in told
  assert "column channel: category of 3 (pos, web, atm)" in told
  assert "column at: time from 2026-01-01" in told
  assert "% missing" in told


def test_reasons_are_the_same_wherever_a_file_is_scored(trained, tmp_path, capsys):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  source, output = str(tmp_path / "new.csv"), tmp_path / "scores.csv"
  test.to_csv(source, index=False)
  scoring.score_input(detector, source, output, explain=True)
  got, told = pd.read_csv(output), detector.explain(test)
  flagged = detector.predict(test) == 1
  assert got["reason"].notna().tolist() == flagged.tolist()
  want = np.array(told.describe())[flagged]
  assert got["reason"][flagged].tolist() == want.tolist()
  assert told.columns == ("at", "channel", "zip", "present", "amount", "age")
  assert flagged[40:].all()
  assert (told.order[40:, 0] == told.columns.index("amount")).all()
  assert got["reason"][40].startswith("amount 100,000 (typical up to ")
  assert main(["score", str(folder / "run" / "detector"), source, "--explain"]) == 0
  rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
  assert [row["reason"] for row in rows if row["reason"]] == want.tolist()
  assert "amount 100,000 (typical up to " in (folder / "run" / "report.html").read_text()


def test_bad_cells_are_named_or_left_without_a_score(trained, tmp_path):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  table = test.astype({"amount": object})
  table.loc[3, "amount"], table.loc[7, "channel"] = "much", None
  table.to_csv(tmp_path / "new.csv", index=False)
  message = r"Line 5 of .*new\.csv holds 'much' in column 'amount', .*: it is a number; repair it"
  with pytest.raises(DataError, match=message):
    scoring.score_input(detector, str(tmp_path / "new.csv"), tmp_path / "scores.csv")
  assert not (tmp_path / "scores.csv").exists()
  source, output = str(tmp_path / "new.csv"), tmp_path / "scores.csv"
  tally = scoring.score_input(detector, source, output, on_bad_row="nan")
  assert (tally.rows, tally.bad) == (60, 2)
  assert np.flatnonzero(pd.read_csv(output)["score"].isna()).tolist() == [3, 7]


def test_a_ragged_line_costs_no_other(trained, tmp_path):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  lines = test.assign(note='"in quotes"').to_csv(index=False).splitlines()
  source, output = tmp_path / "new.csv", tmp_path / "scores.csv"
  source.write_text("\n".join([*lines[:3], "1,2", *lines[3:]]))
  with pytest.raises(DataError, match=r"Line 4 of .*new\.csv has 2 fields where the first has 8"):
    scoring.score_input(detector, str(source), output)
  tally = scoring.score_input(detector, str(source), output, on_bad_row="skip")
  assert (tally.rows, tally.bad) == (61, 1)
  got = pd.read_csv(output)["score"].to_numpy()
  np.testing.assert_array_equal(got.astype(np.float32), detector.score(test))


def test_a_missing_cell_of_a_test_file_is_named_once_by_its_column(tmp_path):
  payments(50, 0).to_csv(tmp_path / "train.csv", index=False)
  table = payments(9, 1).assign(bad=0)
  table.loc[4, "at"] = None
  table.to_csv(tmp_path / "test.csv", index=False)
  source = Files(
    train=str(tmp_path / "train.csv"),
    test=str(tmp_path / "test.csv"),
    label="bad",
    columns="auto",
  )
  message = r"Line 6 of .*test\.csv holds nothing in column 'at', which .* never: it is a time; rep"
  with pytest.raises(DataError, match=message):
    source.load()


def test_an_estimator_learns_the_same(trained, tmp_path):
  folder, test, _ = trained
  train = pd.read_csv(folder / "train.csv", dtype={"zip": str})
  model = DROCC(columns={"zip": "category"}, epochs=2, random_state=0).fit(train)
  detector = detector_jax.load(folder / "run" / "detector")
  assert model.schema_ == detector.schema
  assert model.feature_names_in_.tolist() == list(model.schema_.wanted)
  model.save(tmp_path / "detector")
  again = DROCC.load(tmp_path / "detector")
  assert again.get_params()["columns"] == {"zip": "category"}
  np.testing.assert_array_equal(again.score_samples(test), model.score_samples(test))


def test_an_unknown_category_is_told_in_one_line_however_it_is_scored(
  trained, tmp_path, caplog, capsys
):
  folder, test, _ = trained
  place = folder / "run" / "detector"
  detector, odd = detector_jax.load(place), test.assign(channel=["phone"] * 7 + ["web"] * 53)
  odd.to_csv(tmp_path / "new.csv", index=False)
  source, output = str(tmp_path / "new.csv"), tmp_path / "scores.csv"
  estimator = DROCC()
  estimator._set_detector(detector)
  estimator.score_samples(odd)
  detector_jax.Scorer(place)(odd.drop(columns="id"))
  tally = scoring.score_input(detector, source, output, chunk_size=16)
  scoring.print_summary(detector, tally, str(output), "fail")
  assert main(["score", str(place), source]) == 0
  said = "Of 60 records 7 have a category that training did not have: 'channel' in 7."
  assert caplog.messages == [said] * 4


def test_a_missing_cell_is_named_by_the_users_column(trained):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  for name in ("channel", "at"):
    odd = test.copy()
    odd.loc[[4, 9], name] = None
    with pytest.raises(ValueError, match=rf"NaN at row 4, column '{name}' \(2 such values"):
      detector.score(odd)
    estimator = DROCC()
    estimator._set_detector(detector)
    with pytest.raises(ValueError, match=rf"NaN at row 4, column '{name}' \(2 such values"):
      estimator.predict(odd)


def test_a_stream_takes_records_as_the_table_has_them(trained, tmp_path, caplog):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  lines = test.assign(channel="web", more=1).to_json(orient="records", lines=True).splitlines()
  lines[2] = lines[2].replace('"web"', '"phone"')
  lines[3] = lines[3].replace('"web"', "null")
  lines[4] = lines[4].replace('"present":', '"here":')
  lines[5] = lines[5].replace('"amount":', '"amount":"much","was":')
  written, errors = [], []
  watcher = watching.Watcher(detector)
  for line in lines:
    try:
      written.append(watcher.take(line)["score"])
    except ValueError as error:
      errors.append(str(error))
  want = detector.score(test.assign(channel=["web", "web", "phone"] + ["web"] * 57))
  np.testing.assert_allclose(written, np.delete(want, [3, 4, 5]), rtol=1e-4, atol=1e-5)
  assert errors == [
    "holds nothing in column 'channel', which training had never",
    "lacks 'present', which the detector was trained on",
    "cannot be scored: column 'amount' holds 'much' in record 0, no number",
  ]
  (strange,) = [finding for finding in watcher.findings() if not finding.passed]
  assert strange.message.endswith("1 have a category that training did not have: 'channel' in 1.")
  left_out = [message for message in caplog.messages if message.startswith("Left out")]
  assert left_out == ["Left out 'more' of the record: the detector was not trained on it."]


def test_encoded_records_score_as_raw_ones_do(trained):
  folder, test, _ = trained
  detector = detector_jax.load(folder / "run" / "detector")
  x = detector.schema.encode(test)
  want = detector.score(test)
  np.testing.assert_array_equal(detector.score(x), want)
  np.testing.assert_array_equal(
    detector.score(pd.DataFrame(x, columns=detector.feature_names)), want
  )


@pytest.mark.parametrize(
  ("content", "settings", "message"),
  [
    ("a,b\n1,red\n", {"columns": "b:hue"}, "data.columns must be auto, or NAME:KIND"),
    ("a,b\n1,red\n", {"columns": "c:drop"}, r"x\.csv: There is no column 'c'"),
    (
      "a,b\n" + "1,2\n" * 30 + "1,x\n",
      {"columns": "auto"},
      "'b' holds 'x' in record 30 where near",
    ),
    ("a,a\n1,2\n", {"columns": "auto"}, "two columns named 'a'"),
    ("a,y\n1,2\n", {"columns": "auto", "label": "y"}, "Label 'y' of .* is '2' in line 2"),
    ("a,y\n1,1\n", {"columns": "auto", "label": "y"}, "All 1 records of .* are labelled 1"),
    ("a,b\n", {"columns": "auto"}, "holds no records"),
    ("a,b\n1,red\n", {}, "'b' .* holds text, 'red' in line 2; .* --config.data.columns=auto"),
    ("a,b\n1,2\n1,\n", {}, "holds NaN or nothing .*--config.data.columns=auto, which fills"),
  ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path, content, settings, message):
  (tmp_path / "x.csv").write_text(content)
  with pytest.raises(DataError, match=message):
    Files(train=str(tmp_path / "x.csv"), **settings).load()


def test_labelled_rows_and_groups_of_a_mixed_table(tmp_path):
  content = "kind,size,bad,who\n" + "a,1,false,x\nb,,false,y\na,,True,z\n" * 4
  (tmp_path / "x.csv").write_text(content)
  got = Files(train=str(tmp_path / "x.csv"), label="bad", group="who", columns="auto").load()
  assert (got.x_train.shape, got.negatives.shape) == ((8, 4), (4, 4))
  np.testing.assert_array_equal(got.negatives[0], [1.0, 0.0, 0.0, 1.0])
  assert got.groups.tolist() == ["x", "y"] * 4
  assert json.loads(json.dumps(got.schema.to_json()))["columns"][0]["categories"] == ["a", "b"]


def test_codes_with_zeros_in_front_stay_what_they_are_where_they_are_categories(tmp_path):
  (tmp_path / "x.csv").write_text("zip\n" + "007\n7\n007\n" * 3)
  got = Files(train=str(tmp_path / "x.csv"), columns="zip:category").load()
  assert got.schema.columns[0].categories == ("007", "7")
  assert mixed.kinds_of("zip:category, id:drop") == {"zip": "category", "id": "drop"}


def test_units_and_dates_as_the_user_writes_them(tmp_path):
  rows = [f"{day}.03.2026 06:00;{day},5;1.{day}0 EUR;{day / 2} kg" for day in range(10, 30)]
  path, name = tmp_path / "x.csv", str(tmp_path / "x.csv")
  path.write_text("\n".join(["at;size;price;weight", *rows, "30.03.2026 06:00;1,5;12,50 EUR;7 kg"]))
  got = Files(train=name, columns="auto").load()
  numbers = got.x_train[:, [got.feature_names.index(each) for each in ("size", "price", "weight")]]
  np.testing.assert_array_equal(numbers[[0, -1]], [[10.5, 1100.0, 5.0], [1.5, 12.5, 7.0]])
  path.write_text("at;size;price;weight\n10.03.2026 06:00;1,5;1.100;5\n11.03.2026 06:00;2,5;x;5")
  *_, last = pieces = list(mixed.read_mixed_pieces(name, got.schema, dialect=";,"))
  x = np.concatenate([piece.x for piece in pieces])  # 1.100 is a number of another size to Python
  np.testing.assert_array_equal(x[0, [got.feature_names.index("price")]], [1100.0])
  assert "'x'" in last.explain(len(last.x) - 1)
  kinds = mixed.kinds_of("a:b:time %d.%m.%Y %H:%M,price:number 1,000.0 €, log:log")
  assert kinds == {"a:b": "time %d.%m.%Y %H:%M", "price": "number 1,000.0 €", "log": "log"}


def test_the_test_file_is_read_by_the_schema_of_the_training_file(tmp_path):
  codes = ["007", "1.50", "A1", "B2"] * 10
  (tmp_path / "train.csv").write_text("code\n" + "\n".join(codes) + "\n")
  (tmp_path / "test.csv").write_text("code,y\n007,0\n1.50,1\n")
  source = Files(train=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), label="y")
  got = dataclasses.replace(source, columns="auto").load()
  names = list(got.feature_names)
  assert got.x_test[:, names.index("code=other")].tolist() == [0.0, 0.0]
  assert got.x_test[0, names.index("code=007")] == 1.0


def test_a_table_of_numbers_and_flags_is_encoded_wherever_it_is_scored(rng, tmp_path):
  frame = pd.DataFrame({"a": rng.normal(size=60), "ok": ["yes", "no"] * 30})
  model = DROCC(columns="auto", epochs=2, batch_size=16, random_state=0).fit(frame)
  model.save(tmp_path / "detector")
  detector = detector_jax.load(tmp_path / "detector")
  np.testing.assert_array_equal(detector.score(frame), -model.score_samples(frame))
  x = detector.schema.encode(frame)
  named = pd.DataFrame(x, columns=detector.feature_names)
  np.testing.assert_array_equal(detector.score(named), detector.score(frame))


def test_no_header_and_columns_do_not_go_together(trained, tmp_path):
  folder, _, _ = trained
  (tmp_path / "x.csv").write_text("1,2\n3,4\n")
  with pytest.raises(DataError, match=r"data\.header=no says"):
    Files(train=str(tmp_path / "x.csv"), columns="auto", header="no").load()
  detector = detector_jax.load(folder / "run" / "detector")
  with pytest.raises(DataError, match="must name its columns"):
    scoring.score_input(detector, str(tmp_path / "x.csv"), tmp_path / "s.csv", header="no")


def test_a_decimal_comma_beside_thousands_and_parentheses(tmp_path):
  path = tmp_path / "bank.csv"
  rows = [f"{i},50;{i},25;1.{i}0;{i},5" for i in range(10, 40)]
  rows += ["1.234,50;(1.000,00);2.500;0,5", ";3,00;1.100;0,5"]
  path.write_text("\n".join(["amount;booked;units;share", *rows]))
  got = mixed.load_mixed(path, None, "", "", "auto", dialect=";,")
  spans = {c.name: (c.notation, c.low, c.high) for c in got.schema.columns}
  assert spans == {
    "amount": ("1.000,0", 10.5, 1234.5),
    "booked": ("(1.000,0)", -1000.0, 39.25),
    "units": ("1.000,0", 1100.0, 2500.0),
    "share": ("", 0.5, 39.5),
  }
  pieces = mixed.read_mixed_pieces(str(path), got.schema, dialect=";,")
  x = np.concatenate([piece.x for piece in pieces])
  np.testing.assert_array_equal(x[:-1], got.x_train[:-1])
