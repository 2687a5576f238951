"""Synthesised words: a stand-in for espeak-ng answers, and the real one where it is."""

import pathlib
import stat
import struct

import numpy as np
import pytest
from scipy import signal

from launch.data import DataError, synthesis

SPOKEN = np.sin(2 * np.pi * 500 * np.arange(11_025) / 22_050) * 8000

PROGRAM = """#!/bin/sh
if [ "$1" = --version ]; then echo "eSpeak NG text-to-speech: {version}  Data at: /data"; exit; fi
echo "$@" >> {folder}/log
for word; do :; done
if [ -f {folder}/sound-$word ]; then cat {folder}/sound-$word; else cat {folder}/sound; fi
exit {code}
"""


def streamed(samples, rate=22_050):
  """A .wav as espeak-ng writes it to a pipe: with sizes that are not true."""
  head = struct.pack(
    "<4sI4s4sIHHIIHH4sI",
    b"RIFF",
    0x7FFFF024,
    b"WAVE",
    b"fmt ",
    16,
    1,
    1,
    rate,
    2 * rate,
    2,
    16,
    b"data",
    0x7FFFF000,
  )
  return head + samples.astype("<i2").tobytes()


class Program:
  """A stand-in for espeak-ng on the PATH, and what was asked of it."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.write()

  def write(self, version="9.1-dev", code=0, sound=None):
    silent = np.zeros(2000)
    whole = streamed(np.concatenate([silent, SPOKEN, silent])) if sound is None else sound
    (self.folder / "sound").write_bytes(whole)
    path = self.folder / "espeak-ng"
    path.write_text(PROGRAM.format(version=version, code=code, folder=self.folder))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)

  @property
  def asked(self):
    log = self.folder / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache" / "drocc-jax"


@pytest.fixture
def program(tmp_path, monkeypatch):
  folder = tmp_path / "bin"
  folder.mkdir()
  monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
  return Program(folder)


def test_close_words_are_those_of_table_9():
  assert {word: len(close) for word, close in synthesis.CLOSE.items()} == dict.fromkeys(
    ("marvin", "forward", "seven", "follow"), 5
  )
  assert synthesis.CLOSE["marvin"] == ("mar", "marlin", "arvin", "marvik", "arvi")


def test_words_take_turns_and_are_all_spoken(program):
  x, words = synthesis.synthesise(("mar", "arvi", "marlin"), 8, 0)
  assert words.tolist() == ["mar", "arvi", "marlin"] * 2 + ["mar", "arvi"]
  assert (x.shape, x.dtype) == ((8, 16_000), np.float32)
  assert sorted(line[-1] for line in program.asked) == sorted(words)


def test_each_clip_says_its_word(program):
  for word, frequency in (("low", 500), ("high", 3000)):
    sound = 8000 * np.sin(2 * np.pi * frequency * np.arange(11_025) / 22_050)
    (program.folder / f"sound-{word}").write_bytes(streamed(sound))
  x, words = synthesis.synthesise(("low", "high"), 10, 0)
  heard = np.abs(np.fft.rfft(x)).argmax(axis=1)  # the number of the bin is the frequency in Hz
  np.testing.assert_allclose(heard, np.where(words == "low", 500, 3000), atol=3)


def test_settings_are_drawn_from_their_ranges(program):
  synthesis.synthesise(("low",), 40, 0, variants=("m1", "f3"))
  settings = [dict(zip(line[1:7:2], line[2:7:2], strict=True)) for line in program.asked]
  voices = {setting["-v"] for setting in settings}
  assert len(voices) > 10
  assert {voice.split("+")[1] for voice in voices} == {"m1", "f3"}
  assert {voice.split("+")[0] for voice in voices} == set(synthesis.ACCENTS)
  for flag, low, high in (("-s", 130, 220), ("-p", 20, 80)):
    values = [int(setting[flag]) for setting in settings]
    assert low <= min(values) < low + 15
    assert high - 15 < max(values) <= high


def test_the_word_lies_whole_at_a_place_and_loudness_of_its_own(program):
  x, _ = synthesis.synthesise(("low",), 30, 3)
  peaks = np.abs(x).max(axis=1)
  assert 0.09 < peaks.min() < 0.2
  assert 0.6 < peaks.max() < 0.91
  starts = []
  wave = signal.resample_poly(SPOKEN, 320, 441) / 8000
  for clip in x:
    match = np.abs(signal.correlate(clip, wave[100:-100], "valid"))
    starts.append(int(match.argmax()) - 100)
    assert match.max() == pytest.approx(np.abs(clip).max() * (wave[100:-100] ** 2).sum(), rel=0.05)
  assert min(starts) < 1600
  assert max(starts) > 8000 - 1600


def test_pauses_are_faint_noise_and_not_zero(program):
  x, _ = synthesis.synthesise(("low",), 30, 0)
  quiet = np.array([np.sort(np.abs(clip))[:4000].max() for clip in x])
  levels = np.array([np.std(clip[:1000]) for clip in x if np.abs(clip[:1000]).max() < 0.05])
  assert (quiet > 0).all()
  assert len(levels) > 5
  assert 0.9e-4 < levels.min() < 5e-4 < levels.max() < 2.1e-3
  np.testing.assert_array_equal(x * 32_768, np.rint(x * 32_768))


def test_of_a_longer_word_the_loudest_second_is_kept(program):
  loud = np.concatenate([np.full(22_050, 800.0), np.full(22_050, 8000.0)])
  program.write(sound=streamed(loud))
  x, _ = synthesis.synthesise(("low",), 1, 0)
  assert np.abs(x[0]).min() > 0.8 * np.abs(x[0]).max()


def test_clips_are_a_function_of_number_and_seed(program, tmp_path):
  def spoken(name, count, seed):
    return synthesis.synthesise(("a", "b"), count, seed, cache=tmp_path / name)[0]

  first = spoken("first", 4, 7)
  np.testing.assert_array_equal(spoken("second", 4, 7), first)
  np.testing.assert_array_equal(spoken("second", 6, 7)[:4], first)
  before = {tuple(line) for line in program.asked}
  assert not np.array_equal(spoken("second", 4, 8), first)
  assert not {tuple(line) for line in program.asked[-4:]} & before


def test_clips_are_kept_for_the_next_time(program, cache):
  first, words = synthesis.synthesise(("mar", "vin"), 3, 0)
  assert len(program.asked) == 3
  second, again = synthesis.synthesise(("mar", "vin"), 3, 0)
  assert len(program.asked) == 3
  np.testing.assert_array_equal(second, first)
  np.testing.assert_array_equal(again, words)
  assert [path.suffix for path in cache.iterdir()] == [".npz"]


@pytest.mark.parametrize(
  "change",
  [{"words": ("mar",)}, {"count": 2}, {"seed": 1}, {"variants": ("m1",)}, {"version": "9.2"}],
)
def test_what_changes_clips_is_spoken_anew(program, change):
  asked = {"words": ("mar", "vin"), "count": 3, "seed": 0, "variants": ("m1", "m2")}
  synthesis.synthesise(**asked)
  if "version" in change:
    program.write(version=change["version"])
  else:
    asked |= change
  synthesis.synthesise(**asked)
  assert len(program.asked) == 3 + asked["count"]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other"])
def test_a_damaged_cache_is_made_again(program, cache, caplog, damage):
  first, _ = synthesis.synthesise(("mar",), 2, 0)
  (path,) = cache.iterdir()
  if damage == "other":
    np.savez(path, clips=np.zeros((2, 8), np.int16))
  else:
    path.write_bytes({"cut": path.read_bytes()[:3000], "text": b"hello", "empty": b""}[damage])
  second, _ = synthesis.synthesise(("mar",), 2, 0)
  np.testing.assert_array_equal(second, first)
  assert len(program.asked) == 4
  assert "spoken again" in caplog.text
  np.testing.assert_array_equal(synthesis.synthesise(("mar",), 2, 0)[0], first)
  assert len(program.asked) == 4


def test_a_cache_that_cannot_be_written_costs_time_only(program, tmp_path, caplog):
  (tmp_path / "file").write_text("in the way")
  x, _ = synthesis.synthesise(("mar",), 1, 0, cache=tmp_path / "file")
  assert x.any()
  assert "The spoken clips are not kept for the next time" in caplog.text


def test_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  assert not synthesis.available()
  with pytest.raises(
    DataError, match=r"espeak-ng, which is not installed: install it \(Debian: apt"
  ):
    synthesis.synthesise(("mar",), 1, 0)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"sound": b"hello"}, "wrote no sound for 'mar'"),
    ({"sound": b""}, "wrote no sound for 'mar'"),
    ({"sound": streamed(np.zeros(9))}, "says nothing for 'mar'; choose another word"),
    ({"code": 3}, r"espeak-ng fails \(3\); install it again"),
  ],
)
def test_a_program_that_fails_is_one_sentence(program, settings, message):
  program.write(**settings)
  with pytest.raises(DataError, match=message):
    synthesis.synthesise(("mar",), 1, 0)


@pytest.mark.parametrize(
  ("words", "count", "variants", "message"),
  [
    ((), 1, ("m1",), "at least one word to say"),
    (("mar",), 1, (), "one variant to say it"),
    (("mar", "?"), 1, ("m1",), r"'\?' is no word to say; it needs at least one letter"),
    (("mar",), 0, ("m1",), "count must be at least 1, got 0"),
  ],
)
def test_refuses_what_cannot_be_said(program, words, count, variants, message):
  with pytest.raises(DataError, match=message):
    synthesis.synthesise(words, count, 0, variants=variants)
  assert not program.asked


@pytest.mark.skipif(not synthesis.available(), reason="espeak-ng is not installed")
def test_espeak_speaks_words_apart_and_alike_each_time(tmp_path):
  x, _ = synthesis.synthesise(("mar", "eleven"), 8, 0, cache=tmp_path / "a")
  again, _ = synthesis.synthesise(("mar", "eleven"), 8, 0, cache=tmp_path / "b")
  np.testing.assert_array_equal(again, x)
  lasting = (np.abs(x) > 0.1 * np.abs(x).max(axis=1, keepdims=True)).sum(axis=1)
  assert (lasting > 500).all()
  assert len({clip.tobytes() for clip in x}) == 8
