"""Speech Commands: what is read from where, and who trains, validates and tests."""

from collections import Counter
import pathlib

import numpy as np
import pytest
from scipy.io import wavfile

from launch.data import DataError, audio, speech, synthesis
from tests.launch import tfds_files

WORDS = ("go", "no", "four", "on", "up")
SPEAKERS = 60


def world(words=WORDS, speakers=SPEAKERS):
  """Each speaker says each word once, "no" every second one; clips begin with their number."""
  said = [(who, word) for who in range(speakers) for word in words if word != "no" or who % 2]
  x = np.zeros((len(said), 16_000), np.int16)
  x[:, 0] = np.arange(len(said))
  return {
    "x": x,
    "label": np.array([word for _, word in said]),
    "speaker": np.array([f"s{who}" for who, _ in said]),
    "split": np.array([("training", "validation", "testing")[who % 3] for who, _ in said]),
  }


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
  for variable, name in (("TFDS_DATA_DIR", "tfds"), ("OOD_DATA_DIR", "data")):
    (tmp_path / name).mkdir()
    monkeypatch.setenv(variable, str(tmp_path / name))


@pytest.fixture
def npz(tmp_path):
  def write(**changes):
    arrays = world() | changes
    np.savez_compressed(tmp_path / "data" / speech.FILE, **arrays)
    return arrays

  return write


@pytest.fixture
def numbers(monkeypatch):
  """Features are clips' numbers, -1 of synthesised ones; what these were asked to say."""
  said = []

  def synthesise(words, count, seed, variants):
    said.append({"words": words, "count": count, "seed": seed, "variants": variants})
    return np.full((count, 16_000), -1 / 32_768, np.float32), np.array(words)[:1].repeat(count)

  monkeypatch.setitem(speech.FEATURES, "number", lambda x: x[:, :1].astype(np.float32))
  monkeypatch.setattr(synthesis, "synthesise", synthesise)
  monkeypatch.setattr(synthesis, "available", lambda: True)
  return said


def write_tfds(root: pathlib.Path, version: str, parts: dict[str, list[tuple[int, int, int]]]):
  """Clips (label, samples, value) by part, in two shards each."""
  folder = root / "tfds" / "speech_commands" / version
  folder.mkdir(parents=True)
  for part, clips in parts.items():
    for shard, own in enumerate((clips[:2], clips[2:])):
      tfds_files.write_records(
        folder / f"speech_commands-{part}.array_record-0000{shard}-of-00002",
        [tfds_files.example(audio=[value] * samples, label=label) for label, samples, value in own],
      )
  return folder


GO, NO, SILENCE, UNKNOWN = 1, 3, 10, 11
TFDS = {
  "train": [(GO, 16_000, 1), (UNKNOWN, 100, 2), (SILENCE, 16_000, 3), (NO, 16_000, 4)],
  "validation": [(GO, 16_000, 5), (UNKNOWN, 16_000, 6), (NO, 16_000, 7)],
  "test": [(NO, 16_000, 8), (0, 16_000, 9), (GO, 16_000, 10)],
}


def write_folder(root: pathlib.Path):
  for name, value in (
    ("go/ann_nohash_0.wav", 1),
    ("go/bob_nohash_0.wav", 2),
    ("up/ann_nohash_1.wav", 3),
    ("up/mine.wav", 4),
    ("_background_noise_/tap.wav", 5),
  ):
    path = root / "data" / "speech_commands" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, 16_000, np.full(16_000, value, np.int16))
  (path.parent.parent / "validation_list.txt").write_text("go/bob_nohash_0.wav\n")
  (path.parent.parent / "testing_list.txt").write_text("up/mine.wav\n")


@pytest.mark.data
def test_counts_of_the_subset(data_dir, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(data_dir))
  clips = speech.load()
  counts = Counter(clips.label.tolist())
  assert (clips.x.shape, clips.x.dtype, len(counts)) == ((1631, 16_000), np.int16, 35)
  paper = ("marvin", "seven", "forward", "follow")
  assert [counts[word] for word in (*paper, "go", "zero", "no")] == [31, 37, 23, 19, 300, 300, 100]
  assert Counter(clips.split.tolist()) == {"train": 834, "test": 709, "validation": 88}
  assert len(set(clips.speaker)) == 730


@pytest.mark.data
def test_wake_word_of_the_subset(data_dir, monkeypatch):
  monkeypatch.setenv("OOD_DATA_DIR", str(data_dir))
  split = speech.wake_word("go", 0, "mfcc", synthesised=False)
  counts = Counter([*split.validation.sources.tolist(), *split.sources.tolist()])
  assert (counts["close"], len(split.x_train) + counts["keyword"]) == (100, 300)
  assert len(split.x_train) == pytest.approx(300 * 1000 / 2200, abs=1)
  assert len(split.negatives) + counts["other"] == 1631 - 300 - 100
  assert (split.x_test.shape[1:], split.x_test.dtype) == ((98, 32), np.float32)
  assert split.x_test[:, :, 1:].std() > 1.0


@pytest.mark.parametrize("part", ["train", "validation", "test", "all"])
def test_loads_npz(npz, part):
  arrays = npz()
  name = {"train": "training", "test": "testing"}.get(part, part)
  rows = (arrays["split"] == name) | (part == "all")
  clips = speech.load(part)
  np.testing.assert_array_equal(clips.x, arrays["x"][rows])
  np.testing.assert_array_equal(clips.label, arrays["label"][rows])
  np.testing.assert_array_equal(clips.speaker, arrays["speaker"][rows])
  assert set(clips.split) == ({part} if part != "all" else set(speech.PARTS))
  count = {"all": 270}.get(part, 90)
  assert clips.description == f"Speech Commands ({speech.FILE}), {part}: {count} clips"


def test_loads_tfds(tmp_path):
  write_tfds(tmp_path, "0.0.3", TFDS)
  clips = speech.load()
  assert clips.label.tolist() == (
    ["go", "_unknown_", "_silence_", "no", "go", "_unknown_", "no", "no", "down", "go"]
  )
  assert clips.split.tolist() == ["train"] * 4 + ["validation"] * 3 + ["test"] * 3
  assert (clips.x.shape, clips.x.dtype, clips.speaker) == ((10, 16_000), np.int16, None)
  assert clips.x[:, 0].tolist() == list(range(1, 11))
  assert clips.x[:, -1].tolist() == [1, 0, *range(3, 11)]
  test = speech.load("test")
  assert test.description == "Speech Commands (tfds 0.0.3), test: 3 clips"


def test_loads_a_folder(tmp_path):
  write_folder(tmp_path)
  clips = speech.load()
  assert clips.x[:, 9].tolist() == [1, 2, 3, 4]
  assert clips.label.tolist() == ["go", "go", "up", "up"]
  assert clips.speaker.tolist() == ["ann", "bob", "ann", "up/mine.wav"]
  assert clips.split.tolist() == ["train", "validation", "train", "test"]
  assert clips.description == "Speech Commands (speech_commands/), all: 4 clips"


def test_tfds_goes_before_the_folder_and_that_before_npz(tmp_path, npz):
  npz()
  assert len(speech.load().x) == 270
  write_folder(tmp_path)
  assert len(speech.load().x) == 4
  for version, count in (("0.0.9", 3), ("0.0.10", 4), ("0.0.2", 2)):
    write_tfds(tmp_path, version, {part: [(GO, 9, 1)] * count for part in speech.PARTS})
  write_tfds(tmp_path, "0.1.0", {"train": [(GO, 9, 1)]})  # newer, but without all parts
  assert len(speech.load().x) == 12


def test_says_what_to_set(tmp_path, monkeypatch):
  with pytest.raises(DataError, match=r"neither speech_commands_subset\.npz nor speech_comm"):
    speech.load()
  monkeypatch.delenv("OOD_DATA_DIR")
  with pytest.raises(DataError) as caught:
    speech.load()
  message = str(caught.value)
  for named in ("OOD_DATA_DIR", speech.FILE, "speech_commands/WORD/*.wav", "TFDS_DATA_DIR"):
    assert named in message
  with pytest.raises(DataError, match="no part 'training' of speech_commands; there are: train,"):
    speech.load("training")


def test_a_part_without_clips_is_refused(npz):
  npz(split=np.full(270, "training"))
  with pytest.raises(DataError, match="has no clips of the part 'test'; take 'all'"):
    speech.load("test")


BAD = {
  "file": ({}, r"subset\.npz cannot be read, it is damaged or not a"),
  "objects": ({"label": np.array([{}])}, "cannot be read, it is damaged or not a"),
  "type": ({"x": np.zeros((270, 16_000))}, r"float64 \[270, 16000\] where int16 \[n, 16000\]"),
  "samples": ({"x": np.zeros((270, 8000), np.int16)}, r"int16 \[270, 8000\] where int16 \[n"),
  "none": ({"x": np.zeros((0, 16_000), np.int16)}, r"int16 \[0, 16000\] where int16 \[n"),
  "speakers": ({"speaker": np.array(["s"])}, r"holds speaker <U1 \[1\] for 270 clips; get the"),
  "labels": ({"label": np.arange(270)}, r"holds label int64 \[270\] for 270 clips; get the"),
  "part": ({"split": np.full(270, "dev")}, "has a part 'dev'; parts are: train, validation, test"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_foreign_npz_is_one_sentence(npz, tmp_path, changes, message):
  npz(**changes)
  if not changes:
    (tmp_path / "data" / speech.FILE).write_bytes(b"hello")
  with pytest.raises(DataError, match=message):
    speech.load()


@pytest.mark.parametrize("content", [b"records", "label", "range"])
def test_damaged_tfds_is_one_sentence(tmp_path, content):
  labels = {"range": [(12, 9, 1)]}.get(content, [(GO, 9, 1)])
  folder = write_tfds(tmp_path, "0.0.3", dict.fromkeys(speech.PARTS, labels))
  shard = folder / "speech_commands-test.array_record-00000-of-00002"
  if content == "label":
    tfds_files.write_records(shard, [tfds_files.example() or b"\x0a\x00"])
  elif content != "range":
    shard.write_bytes(content)
  with pytest.raises(DataError, match=r"0\.0\.3 cannot be read \(.*\); write it again, or"):
    speech.load()


def people(arrays, x):
  rows = x[:, 0].astype(int)
  return set(arrays["speaker"][rows[rows >= 0]])


def words(arrays, x):
  return Counter(arrays["label"][number] if number >= 0 else "-" for number in x[:, 0].astype(int))


def by_source(labelled):
  return {name: labelled.x[labelled.sources == name] for name in ("keyword", "other", "close")}


def the_test(split):
  return speech.Labelled(split.x_test, split.y_test, split.sources)


def test_no_speaker_is_in_two_parts(npz, numbers):
  arrays = npz()
  split = speech.wake_word("go", 3, "number")
  parts = [np.concatenate([split.x_train, split.negatives]), split.validation.x, split.x_test]
  groups = [people(arrays, x) for x in parts]
  assert sum(map(len, groups)) == len(set.union(*groups)) == SPEAKERS
  used = [number for number in np.concatenate(parts).ravel() if number >= 0]
  assert len(set(used)) == len(used)


def test_each_record_is_what_its_source_says(npz, numbers):
  arrays = npz()
  split = speech.wake_word("go", 0, "number")
  assert set(words(arrays, split.x_train)) == {"go"}
  assert set(words(arrays, split.negatives)) == {"four", "on", "up"}
  for labelled in (split.validation, the_test(split)):
    kinds = by_source(labelled)
    assert set(words(arrays, kinds["keyword"])) == {"go"}
    assert set(words(arrays, kinds["other"])) == {"four", "on", "up"}
    assert set(words(arrays, kinds["close"])) == {"no", "-"}
    np.testing.assert_array_equal(labelled.y, (labelled.sources != "keyword").astype(int))


def test_counts_follow_the_papers_shares_and_are_all_told(npz, numbers):
  npz()
  split = speech.wake_word("go", 0, "number")
  trained, total = len(split.x_train), len(split.x_train)
  for name, labelled in (("validation", split.validation), ("test", the_test(split))):
    kinds = by_source(labelled)
    total += len(kinds["keyword"])
    assert len(kinds["close"]) == len(kinds["other"])  # as many, as the paper has
    assert (kinds["close"] >= 0).sum() == 15  # all that recorded "no": none in training
    told = (
      f"{name} {len(kinds['keyword'])} keyword, {len(kinds['other'])} other, 15 recorded close, "
      f"{len(kinds['close']) - 15} synthesised close"
    )
    assert told in split.description
  assert (total, trained) == (SPEAKERS, pytest.approx(SPEAKERS * 1000 / 2200, abs=1.5))
  train = f"({speech.FILE}), 'go': train {trained} keyword, {len(split.negatives)} other;"
  for told in (train, "goal, goat, oh, grow, low", "no speaker in two parts", "number, seed 0"):
    assert told in split.description


@pytest.mark.parametrize(("close", "recorded"), [((0, 1, 2), [1, 2]), ((0, 9, 9), [2, 3])])
def test_no_more_than_wanted_and_half_of_it_recorded(npz, numbers, monkeypatch, close, recorded):
  npz()
  wanted = {"keyword": (5, 3, 4), "other": (6, 4, 6), "close": close}
  monkeypatch.setattr(speech, "WANTED", wanted)
  split = speech.wake_word("go", 0, "number")
  assert (len(split.x_train), len(split.negatives)) == (5, 6)
  assert Counter(split.validation.sources.tolist()) == {"keyword": 3, "other": 4, "close": 4}
  assert Counter(split.sources.tolist()) == {"keyword": 4, "other": 6, "close": 6}
  close = [by_source(each)["close"] for each in (split.validation, the_test(split))]
  assert [(x >= 0).sum() for x in close] == recorded


def test_voices_of_validation_do_not_test(npz, numbers):
  npz()
  for seed in (0, 1):
    speech.wake_word("go", seed, "number")
  voices = [set(call["variants"]) for call in numbers]
  assert voices[0] | voices[1] == set(synthesis.VARIANTS)
  assert not voices[0] & voices[1]
  assert len({call["seed"] for call in numbers}) == 4
  assert {call["words"] for call in numbers} == {speech.CLOSE_WORDS["go"]}


def test_is_a_function_of_the_seed(npz, numbers):
  npz()
  first, again, other = (speech.wake_word("go", seed, "number") for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.x_train, again.x_train)
  np.testing.assert_array_equal(first.x_test, again.x_test)
  assert set(first.x_train.ravel()) != set(other.x_train.ravel())


def test_recorded_close_words_and_their_homophones_are_left_out(npz, numbers):
  arrays = npz(**world((*WORDS, "for")))
  split = speech.wake_word("on", 0, "number", close=("for", "up"))
  everything = np.concatenate([split.negatives, split.validation.x, split.x_test])
  assert set(words(arrays, everything)) == {"on", "go", "no", "-"}
  assert {call["words"] for call in numbers} == {("for", "up")}


def test_table_9_leaves_one_out_of_the_negatives_of_seven(npz, numbers):
  arrays = npz(**world(("seven", "one", "on", "marvin")))
  assert set(words(arrays, speech.wake_word("seven", 0, "number").negatives)) == {"on", "marvin"}
  assert {call["words"] for call in numbers} == {synthesis.CLOSE["seven"]}


def test_without_synthesis_nothing_need_be_installed(npz, numbers, monkeypatch):
  arrays = npz()
  monkeypatch.setattr(synthesis, "available", lambda: False)
  with pytest.raises(DataError, match=r"'go' are spoken by espeak-ng, .*: install it .* set syn"):
    speech.wake_word("go", 0, "number")
  split = speech.wake_word("go", 0, "number", synthesised=False)
  assert set(words(arrays, by_source(the_test(split))["close"])) == {"no"}
  assert "words synthesised: none" in split.description
  split = speech.wake_word("up", 0, "number", synthesised=False)
  assert set(split.sources) == {"keyword", "other"}
  assert not numbers


def test_tfds_keeps_its_parts_and_leaves_silence_out(tmp_path, numbers):
  write_tfds(tmp_path, "0.0.3", TFDS)
  split = speech.wake_word("go", 0, "number")
  assert (split.x_train.ravel().tolist(), split.negatives.ravel().tolist()) == ([1], [2])
  assert split.validation.x.ravel().tolist() == [5, 6, -1]
  assert split.x_test.ravel().tolist() == [10, 9, -1]
  assert "parts of its own" in split.description


def test_tfds_is_passed_over_for_words_it_does_not_name(tmp_path, npz, numbers):
  write_tfds(tmp_path, "0.0.3", TFDS)
  npz(**world(("marvin", "on")))
  description = speech.wake_word("marvin", 0, "number").description
  assert description.startswith(f"Speech Commands ({speech.FILE}), 'marvin'")


@pytest.mark.parametrize("features", ["log_mel", "mfcc"])
def test_features_are_those_that_were_asked_for(npz, numbers, rng, features):
  arrays = world(("go", "on"), speakers=12)
  arrays["x"] += rng.integers(-500, 500, arrays["x"].shape).astype(np.int16)
  npz(**arrays)
  split = speech.wake_word("go", 0, features)
  said = getattr(audio, features)(arrays["x"])
  for x, word in ((split.x_train, "go"), (split.negatives, "on")):
    assert (x.shape[1:], x.dtype) == ((98, 32), np.float32)
    assert {one.tobytes() for one in x} <= {one.tobytes() for one in said[arrays["label"] == word]}
  assert split.x_test.shape[1:] == split.validation.x.shape[1:] == (98, 32)


@pytest.mark.parametrize(
  ("keyword", "settings", "message"),
  [
    ("go", {"features": "mel"}, "no features 'mel'; there are: log_mel, mfcc"),
    ("up", {}, "No close words are known for 'up', only for marvin, forward, seven, follow, go, z"),
    ("zero", {}, "no clips of 'zero'; there are clips of 'four', 'go', 'no', 'on', 'up'"),
  ],
)
def test_refuses_what_is_not_there(npz, numbers, keyword, settings, message):
  npz()
  with pytest.raises(DataError, match=message):
    speech.wake_word(keyword, 0, **{"features": "number", **settings})


def test_refuses_too_few_speakers(npz, numbers):
  npz(**world(("go", "on"), speakers=2))
  with pytest.raises(DataError, match=r"2 clips of the keyword, .*no speaker may be in two;"):
    speech.wake_word("go", 0, "number")
  npz(**world(("go",), speakers=9))
  with pytest.raises(DataError, match=r"0 clips of other words, of which none .* part 'train'"):
    speech.wake_word("go", 0, "number")
