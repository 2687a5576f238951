"""How columns write numbers and times: guesses, what is ambiguous, and cells by hand."""

import datetime
import itertools

import numpy as np
import pytest

from detector_jax import cells, notation, schema, typical


@pytest.mark.parametrize(
  ("texts", "expected"),
  [
    (["1.234,50 €", "12,00 €"], "1.000,0 €"),
    (["1,234.50 €", "12 €"], "1,000.0 €"),
    (["$5.25", "-$1,250"], "$1,000.0"),
    (["USD 5", "USD 1,000,000"], "USD 1,000.0"),
    (["7 kg", "+7.5 kg"], "1000.0 kg"),
    (["5%", ".5%"], "1000.0%"),
    (["1 234,5", "7"], "1 000,0"),
    (["1,234 €", "12,50 €"], "1.000,0 €"),
    (["1'234.5", "2'000'000"], "1'000.0"),
    (["1.234.567", "1.234"], "1.000,0"),
    (["1,5", "2,25"], "1.000,0"),
    (["3.5", "1000.0", "-7"], ""),  # as Python reads them
    (["7 kg", "7 lb"], ""),
    (["A-17", "A-18"], ""),
    (["v1.2", "v1.3"], ""),
    (["10:30", "11:20"], ""),
    (["20-30", "30-40"], ""),
    (["10.0.0.1", "10.0.0.2"], ""),
    (["1.000,0", "1,000.0"], ""),
    (["12 kg net weight", "13 kg net weight"], ""),
    (["1\u202f234,50 €", "12,00 €"], "1 000,0 €"),
    (["1\xa0234,5", "7"], "1 000,0"),
    (["1\u2019234.50", "12.00"], "1'000.0"),
    (["5 km/h", "10 km/h"], "1000.0 km/h"),
    (["0,123", "1,456"], "1.000,0"),  # no thousands begin with 0
    (["+5 K", "+7 K"], "1000.0 K"),
    (["12/a", "13/a"], ""),
    (["INV-1001", "INV-1002"], ""),
    (["SKU 7", "SKU 8"], ""),
    (["079 123 456", "044 765 432"], ""),
    (["+33 612 345 678", "+33 712 345 678"], ""),
    (["192.168.178.101", "192.168.178.123"], ""),
    (["0012A", "0013A"], ""),
    (["(5.00)", "7.25"], "(1000.0)"),
    (["(1.234,50)", "7,25", "12"], "(1.000,0)"),
    (["5.00-", "1,250.00"], "1,000.0-"),
    (["$ (1,250.00)", "$5"], "($ 1,000.0)"),
    (["(5 €)", "7.25 €"], "(1000.0 €)"),
    (["(5) €", "7.25 €"], "(1000.0 €)"),
    (["5.00- EUR", "6.00 EUR"], "1000.0 EUR-"),
    (["(12)", "(13)"], ""),  # names, for all that can be told
    (["12-", "13-"], ""),
    (["(5)", "6-", "7"], ""),
    (["(5)", "-6", "7"], ""),
    (["(+5)", "6"], ""),
    (["item (5)", "item 6"], ""),
    (["5 (net)", "6 (net)"], "1000.0 (net)"),  # a unit
    (["12-a", "13a"], ""),
    (["12,34,567.00", "5.00"], "1,00,000.0"),
    (["\u20b9 1,00,000", "\u20b9 5,000"], "\u20b9 1,00,000.0"),
    (["12,34,567", "1,234,567"], ""),
    (["5 kg", "5kg"], "1000.0 kg"),
    (["$5", "$ 6"], "$1000.0"),
    (["5 kg", "6 k g"], ""),
    (["red"], ""),
    ([], ""),
  ],
)
def test_numbers_are_recognised_by_what_all_of_them_share(texts, expected):
  assert notation.of_numbers(texts) == expected


@pytest.mark.parametrize(
  ("text", "written", "expected"),
  [
    ("1.234,50 €", "1.000,0 €", 1234.5),
    ("-1.234,50", "1.000,0 €", -1234.5),
    ("- 12 €", "1.000,0 €", -12.0),
    ("12345", "1.000,0 €", 12345.0),
    ("$ +1,000", "$1,000.0", 1000.0),
    ("1\u202f234,5", "1 000,0", 1234.5),
    ("1\u2019234.5 \u20ac", "1\u2019000.0 \u20ac", 1234.5),
    ("0,123 €", "1,000.0 €", np.nan),
    ("12 $", "1.000,0 €", np.nan),
    ("12.34 €", "1.000,0 €", np.nan),
    ("1,2,3", "1,000.0", np.nan),
    ("(1.234,50)", "(1.000,0 €)", -1234.5),
    ("(1.234,50 €)", "(1.000,0 €)", -1234.5),
    ("€ (12)", "(€ 1.000,0)", -12.0),
    ("12,5", "(1.000,0 €)", 12.5),
    ("+12,5", "(1.000,0 €)", 12.5),
    ("12-", "(1.000,0 €)", np.nan),
    ("-12", "(1.000,0 €)", np.nan),
    ("(-12)", "(1.000,0 €)", np.nan),
    ("(+12)", "(1.000,0 €)", np.nan),
    ("(12", "(1.000,0 €)", np.nan),
    ("((12))", "(1.000,0 €)", np.nan),
    ("1(2)", "(1.000,0 €)", np.nan),
    ("()", "(1.000,0 €)", np.nan),
    ("(12)", "1.000,0 €", np.nan),
    ("5.00-", "1,000.0-", -5.0),
    ("5.00- EUR", "1,000.0- EUR", -5.0),
    ("5.00 EUR-", "1,000.0- EUR", -5.0),
    ("5.00-EUR", "1,000.0- EUR", np.nan),
    ("5.00-", "1,000.0", np.nan),
    ("5-6", "1,000.0-", np.nan),
    ("12,34,567.5", "1,00,000.0", 1234567.5),
    ("1,234.5", "1,00,000.0", 1234.5),
    ("123,456", "1,00,000.0", np.nan),
    ("12,34,567.5", "1,000.0", np.nan),
    ("5kg", "1000.0 kg", 5.0),
    ("", "1000.0 kg", np.nan),
    (".", "1000.0 kg", np.nan),
    ("\u0663 kg", "1000.0 kg", np.nan),
  ],
)
def test_numbers_by_hand(text, written, expected):
  np.testing.assert_equal(notation.number(text, written), expected)


@pytest.mark.parametrize(
  ("texts", "expected"),
  [
    (["24.12.2026 18:30", "01.02.2027 00:00"], "%d.%m.%Y %H:%M"),
    (["13/02/2026", "01/02/2026"], "%d/%m/%Y"),
    (["01/02/2026", "02/13/2026"], "%m/%d/%Y"),
    (["05-Jan-2026"], "%d-%b-%Y"),
    (["2026-12-24 18:30:00 UTC"], "%Y-%m-%d %H:%M:%S %Z"),
    (["December 24, 2026"], "%B %d, %Y"),
    (["2026/03/04 05:06:07.5"], "%Y/%m/%d %H:%M:%S.%f"),
    (["Jan 05, 2026 3:04 PM"], "%b %d, %Y %I:%M %p"),
    (["24.12.26", "01.02.27"], "%d.%m.%y"),
    (["1.2.10", "1.3.14"], ""),  # of a program
    (["1.2.2026", "24.12.2026"], "%d.%m.%Y"),
    (["13/02/2026", "02/13/2026"], ""),
    (["12.5"], ""),
  ],
)
def test_formats_of_times_are_recognised(texts, expected):
  assert notation.of_times(texts) == expected


def test_numbers_with_a_unit_that_count_the_rows_are_left_out():
  learned = schema.learn({"a": [f"{i} kg" for i in range(20)], "b": np.zeros(20)})
  assert learned.columns[0].describe() == "left out, counts the rows"


def test_a_day_that_may_be_a_month_is_asked_for():
  message = "which may be written as %d/%m/%Y or %m/%d/%Y: set its kind to 'time %d/%m/%Y', say"
  with pytest.raises(ValueError, match=message):
    schema.learn({"at": ["01/02/2026", "02/03/2026"]})
  (column,) = schema.learn({"at": ["01/02/2026", "02/03/2026"]}, {"at": "time %m/%d/%Y"}).columns
  assert column.describe() == "time from 2026-01-02 00:00 to 2026-02-03 00:00"


@pytest.mark.parametrize("cells", [["1,234", "5,678"], ["1.250 €", "2.500 €"]])
def test_a_mark_that_may_be_of_thousands_is_asked_for(cells):
  with pytest.raises(ValueError, match=f"holds {cells[0]!r}, which may be written as 1.*000.0"):
    schema.learn({"a": cells})
  (column,) = schema.learn({"a": cells}, {"a": "number 1.000,0 €"}).columns
  assert (column.low, column.high) == ((1.234, 5.678) if "," in cells[0] else (1250.0, 2500.0))


def test_accounts_are_learned_kept_and_set():
  amounts = ["7.25"] * 18 + ["(1,250.00)", None]
  (column,) = learned = schema.learn({"amount": amounts}).columns
  assert (column.kind, column.notation, column.low) == ("number", "(1,000.0)", -1250.0)
  assert column.describe() == "number from -1250 to 7.25, 5.0% missing"
  again = schema.Schema.from_json(schema.Schema(learned).to_json())
  np.testing.assert_array_equal(again.encode({"amount": ["(3.5)"]})[:, 0], [-3.5])
  with pytest.raises(ValueError, match=r"holds '-3.5' in record 0, no number like '\(1,000.0\)'"):
    again.encode({"amount": ["-3.5"]})
  given = schema.learn({"amount": ["(12)", "(13)"]}, {"amount": "number (1000.0)"})
  assert (given.columns[0].low, given.columns[0].notation) == (-13.0, "(1000.0)")


def test_few_large_numbers_among_plain_ones_say_how_all_are_written():
  (column,) = schema.learn({"a": [f"{i}.50" for i in range(30)] + ["1,250.00"]}).columns
  assert (column.notation, column.high) == ("1,000.0", 1250.0)


def test_all_cells_in_parentheses_are_names():
  learned = schema.learn({"id": [f"({i})" for i in range(9)], "b": np.zeros(9)})
  assert learned.columns[0].describe() == "left out, text, 9 different values"


def test_seconds_are_of_utc_unless_a_zone_is_named():
  assert notation.seconds(" 02.01.1970 00:00 ", "%d.%m.%Y %H:%M") == 86400.0
  assert notation.seconds("02.01.1970 01:00 +0100", "%d.%m.%Y %H:%M %z") == 86400.0
  assert np.isnan(notation.seconds("31.02.1970", "%d.%m.%Y"))


def moments(written, rng):
  """Times in a format: padded and not, damaged, beyond the calendar, and of far years."""
  found = []
  for _ in range(60):
    year = int(rng.choice([rng.integers(1, 10_000), rng.integers(1890, 2110)]))
    parts = [int(rng.integers(low, high)) for low, high in ((1, 13), (1, 29), (0, 24), (0, 60))]
    moment = datetime.datetime(year, *parts, int(rng.integers(60)), int(rng.integers(10**6)))
    text = moment.strftime(written.replace("%Z", "UTC").replace("%z", "+0130"))
    found += [text, text.upper(), text.replace(" 0", " "), f"  {text}\t", f"{text}0", text[:-1]]
    i, new = int(rng.integers(len(text))), str(rng.choice(list("0123456789 ./:\0x٣\u017f")))
    found += [text[:i] + new + text[i + 1 :], text[:i] + text[i + 1 :], text[:i] + new + text[i:]]
  ends = (
    ("29", "30", "31", "00"),
    ("02", "03", "Feb", "February", "13", "00"),
    ("2023", "0000", "1968", "1969", "1970"),
  )
  for day, month, year in itertools.product(*ends):
    text = written.replace("%d", day).replace("%Y", year).replace("%y", year[2:])
    for part in "mbB":
      text = text.replace(f"%{part}", month)
    for part, value in {"H": "24", "I": "00", "M": "60", "S": "60", "f": "5", "p": "pm"}.items():
      found += [text := text.replace(f"%{part}", value)] * 2
  return found


@pytest.mark.parametrize(
  "written",
  [
    *(date + clock for date in notation.DATES for clock in notation.CLOCKS),
    *("%d.%m.%Y %H:%M %z", "%Y%m%d", "%d%m%y%H", "%H:%M", "%b %d", "%A %d.%m.%Y", "%I.%M", "%Y"),
    *("Day %d of %m/%Y", "%Y%%%m", "%m %b %Y", "%y %Y", "%d.%m.%Y %H:%M %p", "x0 %d.%m.%Y"),
  ],
)
def test_a_column_of_times_is_read_as_each_of_its_cells(written):
  texts = moments(written, np.random.default_rng(len(written)))
  texts += [*texts[::3], *(f"{text}\0" for text in texts[:9]), f"{texts[0]} {'x' * 99}", "\ud800"]
  expected = [notation.seconds(text, written) for text in texts]
  np.testing.assert_array_equal(notation.seconds_in(texts, written), expected)
  assert 0 < np.isnan(expected).sum() < len(expected)


@pytest.mark.parametrize("clock", notation.CLOCKS)
@pytest.mark.parametrize("date", notation.DATES)
def test_few_cells_of_a_column_are_read_one_by_one(date, clock, monkeypatch):
  read, one_by_one = [], notation._moment
  monkeypatch.setattr(notation, "_moment", lambda *args: read.append(args) or one_by_one(*args))
  rng = np.random.default_rng(0)
  written = (date + clock).replace("%Z", "UTC")
  start = datetime.datetime(2020, 10, 10, 10, 10, 10, 100_000)
  days = [datetime.timedelta(seconds=float(rng.uniform(0, 86_400 * 20))) for _ in range(3000)]
  texts = [(start + each).strftime(written) for each in days]
  assert not np.isnan(notation.seconds_in(["00.00.0000", *texts], date + clock)[1:]).any()
  assert len(read) < 100


@pytest.mark.parametrize(
  "written", ["1000.0 kg", "€ 1,000.0", "1.000,0 m.s", "No. 1000.0", "1 000,0", "1'000.0%", "1.000"]
)
def test_a_column_of_numbers_is_read_as_each_of_its_cells(written):
  rng = np.random.default_rng(len(written))
  before, _, after = written.partition("1")
  unit, texts = after.lstrip("0123456789,.' "), []
  for _ in range(600):
    mark, decimal = rng.choice(["", ",", ".", " ", "'"]), rng.choice([".", ","])
    size = float(10.0 ** rng.uniform(-2, 17))
    text = f"{size:_.{rng.integers(4)}f}".replace(".", "d").replace("_", mark).replace("d", decimal)
    sign, gap = rng.choice(["", "", "-", "+"]), rng.choice(["", " ", "\xa0"])
    texts += [
      f"{sign}{before}{text}{gap}{unit}",
      f"{before}{sign}0{text[1:]}",
      text[-6:],
      f".{text}",
    ]
  for mark, width in itertools.product(".,", range(13, 17)):
    wide = rng.integers(10**width, 9 * 10**width, 20).tolist()
    texts += [f"{before}{size}{mark}{size % 100:02}{unit}" for size in wide]
  texts += texts[::2]
  expected = [notation.number(text, written) for text in texts]
  np.testing.assert_array_equal(notation.numbers_in(texts, written), expected)
  assert 100 < np.isnan(expected).sum() < len(expected) - 100


def test_a_damaged_first_cell_leaves_a_column_as_fast(monkeypatch):
  read, one_by_one = [], notation._moment
  monkeypatch.setattr(notation, "_moment", lambda *args: read.append(args) or one_by_one(*args))
  texts = ["31.02.2020", *(f"{i % 28 + 1:02}.{i % 12 + 1:02}.{1900 + i}" for i in range(200))]
  assert np.isnan(notation.seconds_in(texts, "%d.%m.%Y")).sum() == 1
  assert len(read) < 10


def test_few_numbers_of_a_column_are_read_one_by_one(monkeypatch):
  read, one_by_one = [], notation.number
  monkeypatch.setattr(notation, "number", lambda *args: read.append(args) or one_by_one(*args))
  sizes = np.random.default_rng(0).lognormal(5, 2, 3000)
  texts = [f"{size:_.2f} EUR".replace(".", ",").replace("_", ".") for size in sizes]
  values = notation.numbers_in(texts, notation.of_numbers(texts))
  np.testing.assert_array_equal(values, sizes.round(2))
  assert len(read) < 100


def test_a_whole_number_with_a_mark_of_thousands_is_not_taken_for_a_fraction():
  (column,) = schema.learn({"a": ["3.000", "1.234,5"]}).columns
  assert (column.low, column.high, column.notation) == (1234.5, 3000.0, "1.000,0")


def test_times_among_texts_keep_their_places():
  values = cells.read([None, "01.02.1970", datetime.date(1970, 1, 2), "03.01.1970", "then"])
  got = cells.numbers_in("at", "time", values, strict=False, written="%d.%m.%Y")
  np.testing.assert_array_equal(got / 86_400.0, [np.nan, 31.0, 1.0, 2.0, np.nan])


@pytest.mark.parametrize(
  ("kind", "message"),
  [
    ("time %Q", "'%Q' is no format of datetime.strptime"),
    ("time %d.%d", "'%d.%d' is no format of datetime.strptime"),
    ("time soon", "'soon' is no format of datetime.strptime"),
    ("number 5", "Column 'a': '5' does not write one thousand as a number, such as 1.000,0 €"),
    ("category 1,000", "does not write one thousand as a category"),
    ("numbers 1,000", "cannot be 'numbers 1,000', one of number, log"),
  ],
)
def test_a_notation_that_is_none_is_refused(kind, message):
  with pytest.raises(ValueError, match=message):
    schema.learn({"a": ["1", "2"]}, {"a": kind})


def test_a_table_with_units_and_dates_is_learned_saved_and_scored_alike():
  table = {
    "at": ["24.12.2026 10:00", "01.01.2027 11:00", "13.01.2027 12:00"],
    "price": ["1.234,50 €", "7 €", None],
    "weight": ["5 kg", "6.5 kg", "70 kg"],
  }
  learned = schema.learn(table)
  assert str(learned).splitlines() == [
    "at: time from 2026-12-24 10:00 to 2027-01-13 12:00",
    "price: number from 7 to 1234 €, 33.3% missing",
    "weight: number from 5 to 70 kg",
  ]
  damaged = [column | {"notation": "%Q"} for column in learned.to_json()["columns"]]
  with pytest.raises(ValueError, match="'%Q' is no format of"):
    schema.Schema.from_json(damaged)
  assert typical.Group("price", (4,), learned.columns[1]).number(1234.5) == "1234 €"
  again = schema.Schema.from_json(learned.to_json())
  record = {"at": ["24.12.2026 06:00"], "price": ["12,5"], "weight": ["3 kg"]}
  x = again.encode(record)
  np.testing.assert_array_equal(x, learned.encode(record))
  got = dict(zip(learned.features, x[0].tolist(), strict=True))
  assert (got["at day sin"], got["price"], got["weight"]) == (pytest.approx(1.0), 12.5, 3.0)
  for name, value, kind in (
    ("at", "2026", "no time like '%d.%m.%Y %H:%M'"),
    ("weight", "3 lb", "no number like '1000.0 kg'"),
  ):
    with pytest.raises(ValueError, match=f"column {name!r} holds {value!r} in record 0, {kind}"):
      again.encode(record | {name: [value]})
  assert np.isnan(again.encode(record | {"weight": ["3 lb"]}, strict=False)).sum() == 1
