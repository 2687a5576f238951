"""Speech Commands (Warden, 2018), and the wake-word experiment of the DROCC paper.

Nothing is downloaded and nothing needs TensorFlow.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import logging
import os
import pathlib

import numpy as np

from detector_jax.table import listed, reason_of
from launch.data import audio, folders, synthesis
from launch.data.folders import FOLDER, TFDS_FOLDER
from launch.data.formats import DataError
from launch.data.splits import Labelled, Splits

logger = logging.getLogger(__name__)

NAME = "speech_commands"
FILE = "speech_commands_subset.npz"
PARTS = ("train", "validation", "test")
PART_OF = {"training": "train", "testing": "test"}
SILENCE, UNKNOWN = "_silence_", "_unknown_"
TFDS_WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
TFDS_LABELS = np.array([*TFDS_WORDS, SILENCE, UNKNOWN])

KEYWORD, OTHER, CLOSE = "keyword", "other", "close"
WANTED = {KEYWORD: (1000, 600, 600), OTHER: (2000, 600, 600), CLOSE: (0, 600, 600)}
TITLES = {KEYWORD: "keyword", OTHER: "other", CLOSE: "recorded close"}
CLOSE_WORDS = {
  **synthesis.CLOSE,
  "go": ("goal", "goat", "oh", "grow", "low"),
  "zero": ("hero", "zeal", "arrow", "row", "sero"),
}
RECORDED = {"go": ("no",)}
SOUNDS_LIKE = {"for": "four", "won": "one", "to": "two", "too": "two", "ate": "eight"}
VARIANTS = {"validation": synthesis.VARIANTS[::2], "test": synthesis.VARIANTS[1::2]}
FEATURES = {"log_mel": audio.log_mel, "mfcc": audio.mfcc}


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
  """Recorded words.

  Attributes:
    x: int16 ``[n, 16000]``, one second at 16 kHz each.
    label: str ``[n]``, the word.
    speaker: str ``[n]``, who says it, or None where the source does not tell.
    split: str ``[n]``, the part in the data set's own lists: "train", "validation" or "test".
    description: one line for people.
  """

  x: np.ndarray
  label: np.ndarray
  speaker: np.ndarray | None
  split: np.ndarray
  description: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
  """What ``Clips`` has, with a function of row numbers in the place of ``x``."""

  read: Callable[[np.ndarray], np.ndarray]
  label: np.ndarray
  speaker: np.ndarray | None
  split: np.ndarray
  description: str


def load(split: str = "all") -> Clips:
  """Reads Speech Commands, in the order of its source.

  The source is the first of these that is there:

  1. speech_commands in the tfds folder (the environment variable TFDS_DATA_DIR, else
     ~/tensorflow_datasets), as array_record. It names ten words and no speakers; the other 25 words
     are "_unknown_" there, and "_silence_" is noise.
  2. a folder speech_commands in the one that OOD_DATA_DIR names: the unpacked archive,
     ``WORD/SPEAKER_nohash_NUMBER.wav`` with validation_list.txt and testing_list.txt, or clips of
     your own. A file of another name is a speaker of its own; without lists all is "train".
  3. speech_commands_subset.npz in the folder that OOD_DATA_DIR names, with ``x`` int16
     ``[n, 16000]``, ``label``, ``speaker`` and ``split``.

  Clips of other lengths are cut or padded as ``audio.one_second`` says. The whole set, 105,829
  clips, takes 3.4 GB.

  Args:
    split: "train", "validation", "test" or "all".

  Returns:
    The clips of that part.

  Raises:
    DataError: no such part, no source, or one that is damaged or has no clips of the part.
  """
  if split not in (*PARTS, "all"):
    raise DataError(f"There is no part {split!r} of {NAME}; there are: {', '.join(PARTS)}, all.")
  source = _source(None)
  rows = np.flatnonzero((source.split == split) | (split == "all"))
  if not len(rows):
    raise DataError(f"{source.description} has no clips of the part {split!r}; take 'all'.")
  return Clips(
    source.read(rows),
    source.label[rows],
    None if source.speaker is None else source.speaker[rows],
    source.split[rows],
    f"{source.description}, {split}: {len(rows):,} clips",
  )


def wake_word(
  keyword: str,
  seed: int,
  features: str = "log_mel",
  close: Sequence[str] = (),
  synthesised: bool = True,
) -> Splits:
  """One word against all others, tested on words that sound almost like it.

  As in appendix E.5, 1,000 clips of the keyword and 2,000 of other words train; 600 of the keyword,
  600 of other words and 600 close negatives validate, and as many test. Where there are fewer:

  - No speaker is in two parts. In an order drawn by ``seed``, each speaker goes to the part that
    has the least of what it wants, until all have it: first those who say a recorded close word,
    which does not train, then those who say the keyword, then the rest. A source without speakers
    (tfds) keeps the parts of the data set's own lists, which share none.
  - Each part takes what it wants of its clips, drawn at random, or all where there are fewer.
  - There are as many close negatives as clips of other words, so that both have the same weight in
    a false positive rate, as they have in the paper.

  Close negatives are the words of ``CLOSE_WORDS`` (Table 9 for the paper's four keywords; ours for
  "go" and "zero"), spoken by ``synthesis.synthesise`` with voices that differ between validation
  and test, so that no threshold is set on a voice that tests. For "go", up to half of them are
  recorded clips of "no". Other recorded clips of close words, or of words that sound the same
  ("four" for "for"), are left out; under tfds they cannot be told apart where they are "_unknown_".
  Synthesised clips differ from recordings in more than the word: a linear classifier of each
  filter's mean and deviation tells them apart with an AUROC of 0.998 ("go" of the subset, voices
  unseen). Before believing that close words are rejected as words, score the keyword itself as
  ``synthesis.synthesise`` says it with the variants ``VARIANTS["test"]``.

  Args:
    keyword: the typical word; where tfds has no label of it, another source is read.
    seed: of all draws, >= 0.
    features: "log_mel" or "mfcc".
    close: words to synthesise; empty: those of ``CLOSE_WORDS``.
    synthesised: False leaves synthesised clips out, and with them the need of espeak-ng: the close
      negatives are then recorded ones alone, for "go", or none.

  Returns:
    Splits of float32 ``[n, 98, 32]``: keyword clips to train on, ``negatives`` of other words, and
    validation and test records of the sources "keyword" (label 0), "other" and "close" (label 1).
    The description has all counts.

  Raises:
    DataError: no source, no such keyword or features, no close words known, too few clips, or no
      espeak-ng.

  References:
    DROCC (Goyal et al., 2020), section 5.2.3, Figures 3 and 9, Table 9, Appendix E.5.
  """
  words = tuple(close) or CLOSE_WORDS.get(keyword, ())
  _check(keyword, features, words, synthesised)
  source = _source(keyword)
  kind = _kinds(source.label, keyword, words)
  part = source.split if source.speaker is None else _assigned(source.speaker, kind, seed)
  parts, told = {}, []
  for number, name in enumerate(PARTS):
    chosen = _chosen(kind, part == name, number, synthesised, seed)
    clips = {each: source.read(rows) for each, rows in chosen.items()}
    counted = [f"{len(x):,} {TITLES[each]}" for each, x in clips.items() if len(x)]
    told.append(f"{name} {', '.join(counted)}")
    lacking = len(clips[OTHER]) - len(clips[CLOSE])
    if synthesised and lacking and name != "train":
      made, _ = synthesis.synthesise(words, lacking, 2 * seed + number, variants=VARIANTS[name])
      clips[CLOSE] = np.concatenate([clips[CLOSE], audio.to_int16(made)])
      told[-1] += f", {lacking:,} synthesised close"
    parts[name] = _labelled(clips, features)
  told.append(f"words synthesised: {', '.join(words) if synthesised else 'none'}")
  told.append("parts of its own" if source.speaker is None else "no speaker in two parts")
  description = f"{source.description}, {keyword!r}: {'; '.join(told)}; {features}, seed {seed}"
  logger.info("%s.", description)
  train, test = parts["train"], parts["test"]
  return Splits(
    train.x[train.y == 0],
    test.x,
    test.y,
    description=description,
    sources=test.sources,
    negatives=train.x[train.y == 1],
    validation=parts["validation"],
  )


def _check(keyword: str, features: str, words: Sequence[str], synthesised: bool) -> None:
  if features not in FEATURES:
    raise DataError(f"There are no features {features!r}; there are: {', '.join(FEATURES)}.")
  if synthesised and not words:
    raise DataError(
      f"No close words are known for {keyword!r}, only for {', '.join(CLOSE_WORDS)}: name some in "
      "close, or set synthesised to False."
    )
  if synthesised and not synthesis.available():
    raise DataError(
      f"The close words of {keyword!r} are spoken by {synthesis.PROGRAM}, which is not installed: "
      f"install it (Debian: apt install {synthesis.PROGRAM}), or set synthesised to False."
    )


def _kinds(label: np.ndarray, keyword: str, close: Sequence[str]) -> np.ndarray:
  """What each clip is to the experiment: one of ``WANTED``, or "" for one that is left out."""
  words = sorted({*label.tolist()} - {SILENCE})
  if keyword not in words:
    raise DataError(f"There are no clips of {keyword!r}; there are clips of {listed(words)}.")
  kind = np.full(len(label), OTHER, "U7")
  kind[np.isin(label, [SILENCE, *close, *(SOUNDS_LIKE.get(word, word) for word in close)])] = ""
  kind[np.isin(label, RECORDED.get(keyword, ()))] = CLOSE
  kind[label == keyword] = KEYWORD
  return kind


def _assigned(speaker: np.ndarray, kind: np.ndarray, seed: int) -> np.ndarray:
  """The part of each clip, one for all clips of a speaker; "" where no part wants it."""
  rng = np.random.default_rng((seed, 0))
  names, person = np.unique(speaker, return_inverse=True)
  part = np.full(len(names), -1)
  for each in (CLOSE, KEYWORD, OTHER):
    counts, wanted = np.bincount(person[kind == each], minlength=len(names)), WANTED[each]
    has = [int(counts[part == number].sum()) for number in range(len(PARTS))]
    for row in rng.permutation(np.flatnonzero((counts > 0) & (part < 0))):
      shares = [has[i] / wanted[i] if wanted[i] else np.inf for i in range(len(PARTS))]
      if min(shares) >= 1.0:
        break
      part[row] = np.argmin(shares)
      has[part[row]] += counts[row]
  return np.array([*PARTS, ""])[part[person]]


def _chosen(
  kind: np.ndarray, here: np.ndarray, number: int, synthesised: bool, seed: int
) -> dict[str, np.ndarray]:
  """Rows of each kind for the part of that number; ``here`` marks the rows that are its own."""
  rng = np.random.default_rng((seed, 1, number))
  chosen: dict[str, np.ndarray] = {}
  for each, wanted in WANTED.items():
    rows = rng.permutation(np.flatnonzero((kind == each) & here))
    if each == CLOSE:
      others = len(chosen[OTHER])
      rows = rows[: others // 2 if synthesised else others]
    elif not len(rows):
      what = "the keyword" if each == KEYWORD else "other words"
      raise DataError(
        f"There are {np.sum(kind == each)} clips of {what}, of which none is left for the part "
        f"{PARTS[number]!r}, as no speaker may be in two; record more speakers."
      )
    chosen[each] = np.sort(rows[: wanted[number]])
  return chosen


def _labelled(clips: Mapping[str, np.ndarray], features: str) -> Labelled:
  counts = [len(x) for x in clips.values()]
  return Labelled(
    FEATURES[features](np.concatenate(list(clips.values()))),
    np.repeat(np.array([int(each != KEYWORD) for each in clips], np.int64), counts),
    np.repeat(np.array(list(clips)), counts),
  )


def _source(keyword: str | None) -> _Source:
  """The first source that is there and, if it is tfds, has a label of ``keyword``."""
  path = folders.newest_of_tfds(NAME, *PARTS)
  if path is not None and keyword in (None, *TFDS_WORDS):
    return _of_tfds(path)
  if path is not None:
    logger.info("%s has no label of %r and is passed over.", path, keyword)
  ways = (
    f"set {FOLDER} to the folder that holds {FILE} or, unpacked, the archive as {NAME}/WORD/*.wav, "
    f"or {TFDS_FOLDER} to a tfds folder that holds {NAME} as array_record, for the words "
    f"{', '.join(TFDS_WORDS)}"
  )
  if not os.environ.get(FOLDER):
    raise DataError(f"Speech Commands is read from a folder: {ways}.")
  root = pathlib.Path(os.environ[FOLDER]).expanduser()
  if (root / NAME).is_dir():
    return _of_folder(root / NAME)
  if (root / FILE).is_file():
    return _of_npz(root / FILE)
  raise DataError(f"There is neither {FILE} nor {NAME}/ in {root}: {ways}.")


def _shards(folder: pathlib.Path, part: str) -> list[str]:
  return sorted(map(str, folder.glob(f"{NAME}-{part}.array_record*")))


def _of_tfds(folder: pathlib.Path) -> _Source:
  """Reads the records themselves, as ``tfds.data_source`` needs TensorFlow for sound."""
  from array_record.python.array_record_data_source import ArrayRecordDataSource
  from tensorflow_datasets.proto import tf_example_pb2

  shards = [_shards(folder, part) for part in PARTS]

  def numbers(record: bytes, name: str) -> np.ndarray:
    example = tf_example_pb2.Example.FromString(record)
    return np.array(example.features.feature[name].int64_list.value, np.int64)

  def damaged(error: Exception) -> DataError:
    return DataError(
      f"{folder} cannot be read ({reason_of(error)}); write it again, or set {TFDS_FOLDER} to "
      f"another folder so that {FOLDER} is read."
    )

  try:
    counts = [len(ArrayRecordDataSource(paths)) for paths in shards]
    records = ArrayRecordDataSource([path for paths in shards for path in paths])
    labels = np.array([numbers(records[row], "label").item() for row in range(len(records))])
    label = TFDS_LABELS[labels]
  except Exception as error:  # array_record and protobuf raise anything
    raise damaged(error) from error

  def read(rows: np.ndarray) -> np.ndarray:
    clips = np.empty((len(rows), audio.RATE), np.int16)
    for clip, row in zip(clips, rows, strict=True):
      try:
        waveform = numbers(records[int(row)], "audio") / audio.FULL_SCALE
      except Exception as error:  # array_record and protobuf raise anything
        raise damaged(error) from error
      clip[:] = audio.to_int16(audio.one_second(waveform, audio.RATE, f"Clip {row} of {folder}"))
    return clips

  description = f"Speech Commands (tfds {folder.name})"
  return _Source(read, label, None, np.repeat(np.array(PARTS), counts), description)


def _of_folder(folder: pathlib.Path) -> _Source:
  paths = audio.wav_files(folder)
  part_of: dict[str, str] = {}
  for part, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
    if (folder / name).is_file():
      lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
      part_of |= dict.fromkeys(map(str.strip, lines), part)
  names = [f"{path.parent.name}/{path.name}" for path in paths]
  speakers = [
    path.name.split("_nohash_")[0] if "_nohash_" in path.name else name
    for path, name in zip(paths, names, strict=True)
  ]

  return _Source(
    lambda rows: audio.read_clips([paths[row] for row in rows]),
    np.array([path.parent.name for path in paths]),
    np.array(speakers),
    np.array([part_of.get(name, "train") for name in names]),
    f"Speech Commands ({folder.name}/)",
  )


def _of_npz(path: pathlib.Path) -> _Source:
  x, label, speaker, split = folders.arrays_of(path, "x", "label", "speaker", "split")
  if x.dtype != np.int16 or x.shape[1:] != (audio.RATE,) or not len(x):
    raise DataError(
      f"{path} holds clips {x.dtype} {list(x.shape)} where int16 [n, {audio.RATE}] belong; get the "
      "right file."
    )
  for name, values in (("label", label), ("speaker", speaker), ("split", split)):
    if values.shape != (len(x),) or values.dtype.kind != "U":
      raise DataError(
        f"{path} holds {name} {values.dtype} {list(values.shape)} for {len(x)} clips; get the "
        "right file."
      )
  split = np.array([PART_OF.get(name, name) for name in split.tolist()])
  if unknown := sorted({*split.tolist()} - {*PARTS}):
    raise DataError(f"{path} has a part {unknown[0]!r}; parts are: {', '.join(PARTS)}.")
  return _Source(x.__getitem__, label, speaker, split, f"Speech Commands ({path.name})")
