"""Spoken words from the speech synthesiser espeak-ng, for close negatives nobody has recorded."""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import wave

import numpy as np

from detector_jax import atomic
from launch.data import audio
from launch.data.formats import DataError

logger = logging.getLogger(__name__)

CLOSE = {
  "marvin": ("mar", "marlin", "arvin", "marvik", "arvi"),
  "forward": ("for", "fervor", "ward", "reward", "onward"),
  "seven": ("one", "eleven", "heaven", "when", "devon"),
  "follow": ("fall", "fellow", "low", "hollow", "wallow"),
}
ACCENTS = (
  "en-us",
  "en-gb",
  "en-gb-scotland",
  "en-gb-x-gbclan",
  "en-gb-x-rp",
  "en-gb-x-gbcwmd",
  "en-029",
)
VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
SPEEDS = (130, 220)
PITCHES = (20, 80)
PEAKS = (0.1, 0.9)
NOISES = (1e-4, 2e-3)
AUDIBLE = 0.01
PROGRAM = "espeak-ng"
SECONDS = 60
THREADS = 4
RECIPE = 1


@dataclasses.dataclass(frozen=True)
class _Take:
  """How one clip is spoken and recorded; see ``synthesise``."""

  word: str
  voice: str
  speed: int
  pitch: int
  peak: float
  place: float
  noise: float


def available() -> bool:
  """Whether espeak-ng is installed."""
  return shutil.which(PROGRAM) is not None


def synthesise(
  words: Sequence[str],
  count: int,
  seed: int,
  cache: str | os.PathLike[str] | None = None,
  variants: Sequence[str] = VARIANTS,
) -> tuple[np.ndarray, np.ndarray]:
  """Clips of words, spoken by many voices.

  Words take turns, so that their counts differ by one at most. For each clip are drawn: one of
  seven English accents and one of ``variants`` (together the voice), 130 to 220 words per minute, a
  pitch of 20 to 80 on espeak-ng's scale of 0 to 99, a peak of 0.1 to 0.9 (logarithmically uniform;
  nine tenths of 1,631 clips of Speech Commands peak from 0.08 to 0.99) and a place within the
  second, at which the word lies whole (of a longer one the loudest second is kept). White noise of
  standard deviation 1e-4 to 2e-3 (logarithmically uniform; the quietest tenth of half of those
  clips lies in that range) is added: a synthesiser's pauses are exactly zero, which a microphone's
  seldom are, and a detector must not tell the two by that.

  A clip depends on its number, ``words``, ``seed`` and ``variants`` alone, so that more clips begin
  with the fewer; and on the version of espeak-ng.

  Args:
    words: what to say, in English spelling, each with at least one letter.
    count: clips, >= 1.
    seed: of all draws, >= 0.
    cache: folder in which clips are kept, and from which they are taken when the same are asked for
      again; None: drocc-jax in the folder that XDG_CACHE_HOME names, else in ~/.cache.
    variants: the voices' names in espeak-ng, e.g. those of ``VARIANTS``, five female and eight
      male. One that espeak-ng does not know speaks like its plain voice.

  Returns:
    float32 ``[count, 16000]``, 16 kHz, whole multiples of 1/32768 in [-1, 1], and the word of each,
    str ``[count]``.

  Raises:
    DataError: espeak-ng is not installed or fails, or an argument is not as said.
  """
  words, variants = tuple(words), tuple(variants)
  _check(words, count, variants)
  path = _folder(cache) / f"spoken-{_key(words, count, seed, variants)}.npz"
  clips = _read(path, count)
  if clips is None:
    logger.info("Speaking %d clips of %s with %s.", count, ", ".join(words), PROGRAM)
    takes = [_draw(words[i % len(words)], variants, seed, i) for i in range(count)]
    with futures.ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
      spoken = pool.map(_speak, takes)
      clips = np.stack(
        [
          _record(voice, take, np.random.default_rng((seed, i, 1)))
          for i, (voice, take) in enumerate(zip(spoken, takes, strict=True))
        ]
      )
    _write(path, clips)
  return clips / np.float32(audio.FULL_SCALE), np.array(
    [words[i % len(words)] for i in range(count)]
  )


def _check(words: tuple[str, ...], count: int, variants: tuple[str, ...]) -> None:
  if not words or not variants:
    raise DataError("Name at least one word to say, and one variant to say it.")
  for word in words:
    if not isinstance(word, str) or not any(map(str.isalpha, word)):
      raise DataError(f"{word!r} is no word to say; it needs at least one letter.")
  if count < 1:
    raise DataError(f"count must be at least 1, got {count!r}.")
  if not available():
    raise DataError(
      f"Words are spoken by the program {PROGRAM}, which is not installed: install it (Debian: "
      f"apt install {PROGRAM})."
    )


def _draw(word: str, variants: tuple[str, ...], seed: int, number: int) -> _Take:
  rng = np.random.default_rng((seed, number))
  accent, variant = rng.choice(ACCENTS), rng.choice(variants)
  return _Take(
    word,
    f"{accent}+{variant}",
    int(rng.integers(*SPEEDS, endpoint=True)),
    int(rng.integers(*PITCHES, endpoint=True)),
    float(np.exp(rng.uniform(*np.log(PEAKS)))),
    float(rng.uniform()),
    float(np.exp(rng.uniform(*np.log(NOISES)))),
  )


def _speak(take: _Take) -> np.ndarray:
  """What espeak-ng says, at 16 kHz and without the pauses round it."""
  settings = ["-v", take.voice, "-s", str(take.speed), "-p", str(take.pitch)]
  sound = io.BytesIO(_run("--stdout", *settings, "--", take.word))
  try:
    with wave.open(sound) as file:
      rate, counts = file.getframerate(), file.readframes(file.getnframes())
  except (EOFError, wave.Error) as error:
    raise DataError(f"{PROGRAM} wrote no sound for {take.word!r}; install it again.") from error
  waveform = np.frombuffer(counts[: len(counts) // 2 * 2], "<i2") / audio.FULL_SCALE
  if not waveform.any():
    raise DataError(f"{PROGRAM} says nothing for {take.word!r}; choose another word.")
  waveform = audio.resampled(waveform, rate)
  heard = np.flatnonzero(np.abs(waveform) > AUDIBLE * np.abs(waveform).max())
  return waveform[heard[0] : heard[-1] + 1]


def _record(waveform: np.ndarray, take: _Take, rng: np.random.Generator) -> np.ndarray:
  """int16 ``[16000]``: the word at its place and loudness, and noise."""
  if len(waveform) > audio.RATE:
    waveform = audio.loudest(waveform, audio.RATE)
  clip = take.noise * rng.standard_normal(audio.RATE)
  start = round(take.place * (audio.RATE - len(waveform)))
  clip[start : start + len(waveform)] += take.peak / np.abs(waveform).max() * waveform
  return audio.to_int16(clip)


def _run(*arguments: str) -> bytes:
  try:
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=SECONDS, check=False)
  except (OSError, subprocess.TimeoutExpired) as error:
    raise DataError(f"{PROGRAM} does not run ({error}); install it again.") from error
  if done.returncode:
    reason = done.stderr.decode(errors="replace").strip().partition("\n")[0].rstrip(".")
    raise DataError(f"{PROGRAM} fails ({reason or done.returncode}); install it again.")
  return done.stdout


def _key(words: tuple[str, ...], count: int, seed: int, variants: tuple[str, ...]) -> str:
  """Names what the clips depend on; RECIPE counts the changes of this file that change clips."""
  printed = _run("--version").decode(errors="replace")
  version = re.search(r"\d+(\.\w+)+", printed)
  facts = [RECIPE, version[0] if version else printed, words, count, seed, variants]
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _folder(cache: str | os.PathLike[str] | None) -> pathlib.Path:
  if cache is not None:
    return pathlib.Path(cache).expanduser()
  return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "drocc-jax"


def _read(path: pathlib.Path, count: int) -> np.ndarray | None:
  """The clips kept there, or None where there are none to use."""
  if not path.is_file():
    return None
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
      clips = archive["clips"]
  except Exception as error:  # a damaged file makes its parser raise anything
    logger.warning("%s cannot be read (%s); its clips are spoken again.", path, error)
    return None
  if clips.dtype != np.int16 or clips.shape != (count, audio.RATE):
    logger.warning("%s holds something else; its clips are spoken again.", path)
    return None
  return clips


def _write(path: pathlib.Path, clips: np.ndarray) -> None:
  """Keeps the clips, whole or not at all; a folder that cannot be written to only costs time."""
  try:
    with atomic.written_beside(path) as temporary, temporary.open("wb") as file:
      np.savez(file, clips=clips)
  except OSError as error:
    logger.warning("The spoken clips are not kept for the next time (%s).", error)
