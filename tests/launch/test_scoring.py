"""Scoring in chunks: the same bytes whatever their size, bad rows, interruption, memory."""

import os
import pathlib
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet
import pytest

import detector_jax
from detector_jax.preprocessing import Identity
from launch import scoring
from launch.data.files import DataError
from launch.data.formats import csv_text
from tests.helpers import started

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS = 61


def crowded(variables, x):
  """A score that tells where a row was in its batch and with whom."""
  place = jnp.arange(len(x), dtype=jnp.float32)
  return x @ variables + 0.1 * place + 0.01 * jnp.sum(x)


def plain(variables, x):
  return x @ variables


def plain_report(variables, x, threshold):
  score = x @ variables
  return {"layer": (score > 1.0).astype(jnp.int32), "side": jnp.sign(score)}


def made(score_fn=plain, report_fn=None, **settings):
  x = np.random.default_rng(1).normal(size=(40, 3))
  return detector_jax.Detector.create(
    score_fn,
    jnp.asarray([1.0, 2.0, 3.0]),
    Identity(),
    (3,),
    batch_size=8,
    report_fn=report_fn,
    **settings,
  ).calibrate(x, 0.1)


@pytest.fixture(scope="module")
def records():
  return np.random.default_rng(0).normal(size=(ROWS, 3))


def saved(folder, name, x):
  path = folder / name
  if path.suffix == ".csv":
    path.write_text("\n".join(",".join(map(repr, row)) for row in x.tolist()))
  elif path.suffix == ".npy":
    np.save(path, x)
  elif path.suffix == ".npz":
    np.savez(path, x=x)
  else:
    parquet.write_table(pa.table(dict(zip("abc", x.T, strict=True))), path, row_group_size=9)
  return str(path)


def table_of(path):
  options = arrow_csv.ConvertOptions(strings_can_be_null=True)
  if str(path).endswith(".csv"):
    return arrow_csv.read_csv(path, convert_options=options).to_pydict()
  return parquet.read_table(path).to_pydict()


@pytest.mark.parametrize("on_bad_row", scoring.ON_BAD_ROW)
@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.parquet"])
def test_no_byte_depends_on_the_chunk(tmp_path, monkeypatch, records, name, on_bad_row):
  detector, x, output = made(crowded), records.copy(), tmp_path / "scores.csv"
  good = np.ones(ROWS, bool)
  if on_bad_row != "fail":
    good[[0, 7, 8, 9, 30, ROWS - 1]] = False
    x[~good, 1] = np.nan
  source, written = saved(tmp_path, name, x), set()
  for chunk_size, block in ((1, 1), (8, 70), (11, 200), (0, 10**6)):
    monkeypatch.setattr(csv_text, "BLOCK_BYTES", block)
    scoring.score_input(detector, source, output, on_bad_row=on_bad_row, chunk_size=chunk_size)
    written.add(output.read_bytes())
  assert len(written) == 1
  table = table_of(output)
  scores = np.array(table["score"], np.float64)
  kept = good if on_bad_row == "nan" else np.isfinite(scores)
  np.testing.assert_array_equal(np.float32(scores[kept]), detector.score(records[good]))
  assert np.isnan(scores[~kept]).all()


def test_skip_numbers_its_rows_even_where_none_is_bad(tmp_path, records):
  x, output = records[:5].copy(), tmp_path / "scores.parquet"
  scoring.score_input(made(), saved(tmp_path, "x.npy", x), output, on_bad_row="skip")
  assert table_of(output)["row"] == [0, 1, 2, 3, 4]
  x[[0, 3], 2] = np.inf
  tally = scoring.score_input(made(), saved(tmp_path, "x.npy", x), output, on_bad_row="skip")
  table = table_of(output)
  assert list(table) == ["row", "score", "p_value", "decision"]
  assert table["row"] == [1, 2, 4]
  np.testing.assert_array_equal(np.float32(table["score"]), made().score(x[[1, 2, 4]]))
  assert (tally.rows, tally.bad) == (5, 2)
  assert tally.first_bad.startswith("row 0 of ")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_nan_leaves_every_value_of_a_bad_row_empty(tmp_path, records, ending):
  detector = made(report_fn=plain_report, metadata={"layers": ["first", "second"]})
  x, output = records[:40].copy(), tmp_path / f"scores.{ending}"
  x[:20, 0] = np.nan  # more than the first two batches
  x[38:, 0] = np.nan
  tally = scoring.score_input(
    detector, saved(tmp_path, "x.npy", x), output, on_bad_row="nan", chunk_size=8
  )
  table = table_of(output)
  assert list(table) == ["score", "p_value", "decision", "layer", "side"]
  expected = scoring.columns_of(detector, x[20:38])
  for name, values in table.items():
    assert [i for i, value in enumerate(values) if value is None] == [*range(20), 38, 39]
    assert values[20:38] == pytest.approx(expected[name].tolist()) or (
      values[20:38] == expected[name].tolist()
    )
  assert tally.anomalous == sum(table["decision"][20:38])


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("on_bad_row", ["skip", "nan"])
def test_kept_columns_stand_beside_their_scores(tmp_path, monkeypatch, records, ending, on_bad_row):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", 300)
  detector = made(metadata={"feature_names": ["a", "b", "c"]})
  names = [f"no {row}, and more" for row in range(ROWS)]
  x = records.copy()
  x[[0, 9, 10, ROWS - 1], 1] = np.inf
  frame = pd.DataFrame(x, columns=["c", "b", "a"]).assign(id=names, note=[None, "x"] * 30 + ["y"])
  source, output = str(tmp_path / f"x{ending}"), tmp_path / "scores.csv"
  frame.to_csv(source, index=False) if ending == ".csv" else frame.to_parquet(source)
  scoring.score_input(detector, source, output, on_bad_row=on_bad_row, chunk_size=8, keep=["id"])
  got = pd.read_csv(output)
  good = np.isfinite(x).all(axis=1)
  assert got["id"].tolist() == [
    n for n, g in zip(names, good, strict=True) if g or on_bad_row == "nan"
  ]
  scored = got.dropna(subset=["score"])
  assert scored["id"].tolist() == np.array(names)[good].tolist()
  np.testing.assert_array_equal(np.float32(scored["score"]), detector.score(x[good][:, ::-1]))
  assert list(got)[:2] == (["id", "row"] if on_bad_row == "skip" else ["id", "score"])


@pytest.mark.parametrize(
  ("name", "keep", "message"),
  [
    ("x.csv", ["when"], "has no column 'when' to keep; it has '0', '1', '2'"),
    ("x.parquet", ["a", "a"], "two columns of one name"),
    ("x.parquet", ["score"], "two columns of one name"),
    ("x.npy", ["a"], "--keep is for tables, which name columns"),
  ],
)
def test_what_cannot_be_kept_is_one_sentence(tmp_path, records, name, keep, message):
  output = tmp_path / "scores.csv"
  with pytest.raises(DataError, match=message):
    scoring.score_input(made(), saved(tmp_path, name, records), output, keep=keep)
  assert not output.exists()


def test_kept_cells_stay_in_step_where_a_quote_is_not_closed(tmp_path, monkeypatch):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", 24)  # the header is decoded strictly
  text = 'a,b,c,id\n1,2,3,007\n4,5,6,"y\n7,8,9,NA\n1,1,1,\n2,2,"2","\xe4, ""z"""\n3,3,3,\xe4\n'
  (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
  output = tmp_path / "scores.csv"
  detector = made(metadata={"feature_names": ["a", "b", "c"]})
  scoring.score_input(
    detector, str(tmp_path / "x.csv"), output, on_bad_row="skip", keep=["id", "a"]
  )
  assert table_of(output)["row"] == [0, 2, 3, 4, 5]
  got = pd.read_csv(output, dtype=str, keep_default_na=False)
  assert got["id"].tolist() == ["007", "NA", "", '\ufffd, "z"', "\ufffd"]
  assert got["a"].tolist() == ["1", "7", "1", "2", "3"]


def test_a_false_discovery_rate_is_of_the_whole_file(tmp_path, capsys, records):
  detector, output = made(), tmp_path / "scores.csv"
  x = np.concatenate([records, np.full((30, 3), 9.0)])
  tally = scoring.score_input(detector, saved(tmp_path, "x.npy", x), output, chunk_size=8, fdr=0.2)
  scores = detector.score(x)
  want = detector.calibration.discoveries(scores, 0.2)
  assert table_of(output)["decision"] == want.astype(int).tolist()
  assert tally.anomalous == want.sum() >= 30
  assert want.sum() != detector.predict(x).sum()
  scoring.score_input(detector, saved(tmp_path, "y.npy", x[:70]), output, fdr=0.001)
  assert table_of(output)["decision"] == [0] * 70
  said = capsys.readouterr().err
  assert (
    "since 15 of 70 records score above all 40 calibration records: it takes at least 4,66" in said
  )
  with pytest.raises(DataError, match="which is read twice"):
    scoring.score_input(detector, "-", output, fdr=0.2)


def test_what_cannot_be_explained_is_refused_before_it_is_read(tmp_path, records):
  output = tmp_path / "scores.csv"
  with pytest.raises(ValueError, match="keeps no typical values to explain"):
    scoring.score_input(made(), saved(tmp_path, "x.npy", records), output, explain=True)
  assert not output.exists()


def test_a_bad_row_stops_and_writes_nothing(tmp_path, records):
  x = records.copy()
  x[50, 1] = np.nan
  for name, place in (("x.csv", "Line 51 of"), ("x.npy", "Row 50 of")):
    source = saved(tmp_path, name, x)
    message = (
      f"{place} {source} holds NaN or nothing in column '1'; repair it, or give --on_bad_row=skip "
      "or --on_bad_row=nan."
    )
    with pytest.raises(DataError) as caught:
      scoring.score_input(made(), source, tmp_path / "scores.csv", chunk_size=8)
    assert str(caught.value) == message
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    os.remove(source)


def test_rows_that_all_are_bad_are_refused(tmp_path, records):
  source = saved(tmp_path, "x.npy", np.full((9, 3), np.nan))
  for on_bad_row in ("skip", "nan"):
    with pytest.raises(DataError, match=r"No row can be scored: row 0 of .* holds NaN or nothing"):
      scoring.score_input(made(), source, tmp_path / "scores.csv", on_bad_row=on_bad_row)
  assert [entry.name for entry in tmp_path.iterdir()] == ["x.npy"]


def test_interrupted_midway_leaves_the_old_scores(tmp_path, monkeypatch, records):
  source, output = saved(tmp_path, "x.npy", records), tmp_path / "scores.csv"
  output.write_text("old")
  real, chunks = scoring.columns_of, []

  def columns_of(detector, x, *more):
    if len(chunks) == 3:
      assert len(list(tmp_path.iterdir())) == 3
      raise KeyboardInterrupt
    chunks.append(x)
    return real(detector, x, *more)

  monkeypatch.setattr(scoring, "columns_of", columns_of)
  with pytest.raises(KeyboardInterrupt):
    scoring.score_input(made(), source, output, chunk_size=8)
  assert [len(chunk) for chunk in chunks] == [8, 8, 8]
  assert output.read_text() == "old"
  assert sorted(entry.name for entry in tmp_path.iterdir()) == ["scores.csv", "x.npy"]


def test_the_input_is_not_replaced_by_its_scores(tmp_path, records):
  source = saved(tmp_path, "x.csv", records)
  with pytest.raises(DataError, match="is the input; give the scores a file of their own"):
    scoring.score_input(made(), source, tmp_path / "." / "x.csv")


def blown(variables, x):
  return x[:, 0] / (x[:, 1] - 7.0)


def test_a_score_that_is_not_finite_names_the_rows(tmp_path, records):
  x = records.copy()
  x[20, 1] = 7.0
  source = saved(tmp_path, "x.npy", x)
  with pytest.raises(detector_jax.HealthError, match=r"rows from row 16 of the input .* row 4 is"):
    scoring.score_input(made(blown), source, tmp_path / "scores.csv", chunk_size=8)
  assert [entry.name for entry in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize(("asked", "rows"), [(0, 1398104), (1, 8), (8, 8), (9, 16)])
def test_chunks_are_whole_batches(asked, rows):
  assert scoring.rows_per_chunk(made(), asked) == rows


def test_progress_is_shown(tmp_path, capsys, records):
  scoring.score_input(
    made(), saved(tmp_path, "x.npy", records[:40]), tmp_path / "s.csv", chunk_size=8
  )
  lines = capsys.readouterr().err.splitlines()
  assert lines == [f"score {20 * i}/100 {8 * i} rows" for i in range(1, 6)]


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.parquet"])
def test_memory_does_not_grow_with_the_input(tmp_path, monkeypatch, name):
  monkeypatch.setattr(csv_text, "BLOCK_BYTES", 2**16)
  detector, peaks = made().with_batch_size(1000), []
  for rows in (20_000, 100_000):
    x = np.random.default_rng(0).integers(10, size=(rows, 3)).astype(np.float64)
    source = saved(tmp_path, name, x)
    del x
    tracemalloc.start()
    scoring.score_input(detector, source, tmp_path / "scores.parquet", chunk_size=1000)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < peaks[0] + 200_000  # 80,000 more rows are 1.9 MB of records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("detectors") / "detector"
  made(metadata={"feature_names": ["a", "b", "c"]}).with_batch_size(2**16).save(path)
  return path


def start(folder, *arguments):
  return started("-m", "launch.score", f"--detector={folder}", "--input=-", *arguments)


@pytest.mark.slow
def test_standard_input_is_scored(folder, tmp_path):
  output = tmp_path / "scores.csv"
  process = start(folder, f"--output={output}", "--on_bad_row=nan")
  said, told = process.communicate(b"c,a,b,id\n3,1,2,x\n1,2\n0,-9,0,y\n")
  assert process.returncode == 0, told
  assert said.decode() == f"1 of 2 records are anomalous: {output}\n"
  lines = told.decode().splitlines()
  assert lines[-2] == (
    "1 bad rows were left empty; the first: line 3 of standard input has 2 fields where the first "
    "has 4."
  )
  assert lines[-1].startswith("3 rows in ")
  assert lines[-1].endswith(" rows per second.")
  assert table_of(output)["score"] == [14.0, None, -9.0]


@pytest.mark.slow
def test_a_terminated_command_leaves_nothing(folder, tmp_path):
  process = start(folder, f"--output={tmp_path / 'scores.csv'}", "--chunk_size=1")
  process.stdin.write(b"a,b,c\n" + b"1,2,3\n" * 1_500_000)  # one block is scored, the next awaited
  process.stdin.flush()
  (half,) = tmp_path.iterdir()
  assert f"-{process.pid}-" in half.name
  process.terminate()
  _, told = process.communicate()
  assert process.returncode == 143, told
  assert not list(tmp_path.iterdir())
