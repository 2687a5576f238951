"""Clips of one second and what networks see of them: 98 frames of 32 log-mel energies or MFCCs."""

from collections import Counter
from collections.abc import Sequence
import logging
import math
import os
import pathlib
import warnings

import numpy as np
from scipy import fft, signal
from scipy.io import wavfile

from detector_jax.table import reason_of
from launch.data.formats import DataError

logger = logging.getLogger(__name__)

RATE = 16_000
WINDOW = 0.025
STEP = 0.010
FILTERS = 32
LOWEST, HIGHEST = 20.0, 8000.0
FLOOR = 1e-6
FULL_SCALE = 32768
ROWS_AT_ONCE = 32


def log_mel(waveforms: np.ndarray, rate: int = RATE) -> np.ndarray:
  r"""Natural logarithms of mel energies, frame by frame.

  Frames of 25 ms every 10 ms, the first at the first sample and none beyond the last, under a
  periodic Hann window; power spectrum of the frame padded with zeros to a power of two (512 at
  16 kHz); 32 triangular filters of height 1, see ``mel_edges``; :math:`\log \max(e, 10^{-6})`.
  The floor is about the energy that noise of the last of 16 bits has, so that clips padded with
  digital zeros do not stand far below every recording.

  Args:
    waveforms: ``[n, samples]``, floating point in [-1, 1] or int16 (divided by 32768), of at least
      25 ms.
    rate: samples per second, >= 1000. Filters end at half of it where that is below 8000 Hz.

  Returns:
    float32 ``[n, frames, 32]``, 98 frames for one second.

  Raises:
    ValueError: an argument is not as said.
  """
  _check_waveforms(waveforms)
  if rate < 1000:
    raise ValueError(f"rate must be at least 1000 samples per second, got {rate!r}.")
  width, step = round(WINDOW * rate), round(STEP * rate)
  if waveforms.shape[1] < width:
    raise ValueError(
      f"A clip must have at least {width} samples (25 ms), got {waveforms.shape[1]}."
    )
  size = 1 << (width - 1).bit_length()
  window, filters = signal.windows.hann(width, sym=False), _filters(rate, size)
  frames = 1 + (waveforms.shape[1] - width) // step
  result = np.empty((len(waveforms), frames, FILTERS), np.float32)
  for start in range(0, len(waveforms), ROWS_AT_ONCE):
    rows = slice(start, start + ROWS_AT_ONCE)
    x = np.lib.stride_tricks.sliding_window_view(_unit(waveforms[rows]), width, axis=1)
    spectrum = fft.rfft(x[:, ::step] * window, size)
    power = (spectrum.real**2 + spectrum.imag**2).reshape(-1, len(filters))
    energy = np.maximum(power @ filters, FLOOR)  # one product of matrices, not one for each clip
    result[rows] = np.log(energy).reshape(-1, frames, FILTERS)
  return result


def mfcc(waveforms: np.ndarray, rate: int = RATE) -> np.ndarray:
  """Mel-frequency cepstral coefficients: the orthonormal DCT-II of each frame of ``log_mel``.

  All 32 coefficients are kept, so that distances between frames are those of ``log_mel``.

  Args:
    waveforms: as ``log_mel`` takes them.
    rate: samples per second, >= 1000.

  Returns:
    float32 ``[n, frames, 32]``.

  Raises:
    ValueError: as ``log_mel``.
  """
  return fft.dct(log_mel(waveforms, rate), type=2, norm="ortho", axis=-1)


def mel_edges(rate: int = RATE) -> np.ndarray:
  """Where the filters of ``log_mel`` begin, peak and end.

  Evenly spaced from 20 to 8000 Hz (half the rate, if less) on the HTK mel scale,
  ``2595 log10(1 + f / 700)``.

  Args:
    rate: samples per second.

  Returns:
    float64 ``[34]``, Hz, increasing. Filter i rises from entry i to entry i + 1 and falls to
    entry i + 2.
  """
  low, high = 2595.0 * np.log10(1.0 + np.array([LOWEST, min(HIGHEST, rate / 2)]) / 700.0)
  return 700.0 * (10.0 ** (np.linspace(low, high, FILTERS + 2) / 2595.0) - 1.0)


def one_second(waveform: np.ndarray, rate: int, name: str = "the clip") -> np.ndarray:
  """One second at 16 kHz of a recording of any length and rate.

  Channels are averaged and other rates resampled, which is logged. What is shorter is padded with
  zeros at the end; of what is longer the loudest second is kept, with a warning. Silence is a
  recording like any other.

  Args:
    waveform: ``[samples]`` or ``[samples, channels]``, floating point in [-1, 1] or int16.
    rate: samples per second, >= 1.
    name: the recording, for messages.

  Returns:
    float32 ``[16000]`` in [-1, 1].

  Raises:
    DataError: no samples, values that are not finite or out of [-1, 1], or another shape or type.
  """
  if rate != RATE:
    logger.info("Resampling %s from %d Hz to %d Hz.", name, rate, RATE)
  return _one_second(waveform, rate, name)


def resampled(waveform: np.ndarray, rate: int) -> np.ndarray:
  """A waveform at 16 kHz: polyphase filter, clipped to [-1, 1].

  Args:
    waveform: float ``[samples]`` in [-1, 1].
    rate: its samples per second, >= 1; 16000 returns it as it is.

  Returns:
    float ``[ceil(samples * 16000 / rate)]``.
  """
  if rate == RATE:
    return waveform
  common = math.gcd(rate, RATE)
  return np.clip(signal.resample_poly(waveform, RATE // common, rate // common), -1.0, 1.0)


def loudest(waveform: np.ndarray, samples: int) -> np.ndarray:
  """The stretch of most energy, the first of equals.

  Args:
    waveform: float ``[n]``.
    samples: its length, 1..n.

  Returns:
    A view ``[samples]``.
  """
  energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
  start = int(np.argmax(energy[samples:] - energy[:-samples]))
  return waveform[start : start + samples]


def to_int16(waveforms: np.ndarray) -> np.ndarray:
  """Waveforms in [-1, 1] as 16-bit counts: times 32768, rounded, 1.0 becoming 32767."""
  counts = np.rint(np.asarray(waveforms, np.float32) * np.float32(FULL_SCALE))
  return np.clip(counts, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def read_wav(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
  """Reads a .wav file: PCM of 8, 16, 24 or 32 bits, or floating point.

  Returns:
    The recording, float32 ``[samples]`` or ``[samples, channels]``, PCM in [-1, 1], and its
    samples per second.

  Raises:
    DataError: no such file, a damaged one, or one of another format.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise DataError(f"There is no file {path}.")
  if path.suffix.lower() != ".wav":
    raise DataError(f"{path} does not end in .wav; convert it to a .wav file.")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", wavfile.WavFileWarning)
      warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
      rate, samples = wavfile.read(path)
  except Exception as error:  # a damaged file makes its parser raise anything
    reason = reason_of(error)
    raise DataError(
      f"{path} cannot be read, it is damaged or of a format other than PCM and floating point "
      f"({reason}); write it again."
    ) from error
  if not samples.size:
    raise DataError(f"{path} holds no samples; record it again.")
  if samples.dtype.kind == "f":
    return samples.astype(np.float32), int(rate)
  if samples.dtype == np.uint8:
    return (samples.astype(np.float32) - 128) / 128, int(rate)
  scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
  return (samples / scale).astype(np.float32), int(rate)


def wav_files(folder: str | os.PathLike[str]) -> list[pathlib.Path]:
  """The .wav files of a folder with one sub-folder a word, as the Speech Commands archive has them.

  Sub-folders whose names begin with "_" or "." are left out; so is the archive's
  ``_background_noise_``.

  Returns:
    ``FOLDER/WORD/NAME.wav``, sorted.

  Raises:
    DataError: no such folder, or none of these in it.
  """
  folder = pathlib.Path(folder).expanduser()
  if not folder.is_dir():
    raise DataError(f"There is no folder {folder}.")
  files = [
    path
    for path in folder.glob("*/*")
    if path.suffix.lower() == ".wav" and not path.parent.name.startswith(("_", "."))
  ]
  if not files:
    raise DataError(f"{folder} has no sub-folder with .wav files; make one sub-folder a word.")
  return sorted(files)


def read_clips(paths: Sequence[pathlib.Path]) -> np.ndarray:
  """One second of each file, see ``one_second``; one logged line for each rate that is not 16 kHz.

  Returns:
    int16 ``[n, 16000]``.

  Raises:
    DataError: a file that cannot be used.
  """
  result = np.empty((len(paths), RATE), np.int16)
  rates: Counter[int] = Counter()
  for row, path in enumerate(paths):
    waveform, rate = read_wav(path)
    rates[rate] += 1
    result[row] = to_int16(_one_second(waveform, rate, str(path)))
  for rate, count in sorted(rates.items()):
    if rate != RATE:
      logger.info("Resampled %d of %d clips from %d Hz to %d Hz.", count, len(paths), rate, RATE)
  return result


def _one_second(waveform: np.ndarray, rate: int, name: str) -> np.ndarray:
  x = np.asarray(waveform)
  if x.ndim not in (1, 2) or (x.dtype != np.int16 and x.dtype.kind != "f"):
    raise DataError(
      f"{name} must be floating point or int16, [samples] or [samples, channels], got {x.dtype} "
      f"{list(x.shape)}."
    )
  if not x.size:
    raise DataError(f"{name} holds no samples; record it again.")
  if rate < 1:
    raise DataError(f"{name} has a rate of {rate!r}; it must be at least 1 sample per second.")
  wrong = _out_of_range(x)
  if wrong:
    raise DataError(f"{name} {wrong}; divide it by its largest magnitude, or record it again.")
  x = _unit(x)
  if x.ndim == 2:
    x = x.mean(axis=1)
  x = resampled(x, rate)
  if len(x) > RATE:
    logger.warning("%s lasts %.2f s; its loudest second is kept.", name, len(x) / RATE)
    x = loudest(x, RATE)
  return np.pad(x, (0, RATE - len(x))).astype(np.float32)


def _filters(rate: int, size: int) -> np.ndarray:
  """Triangles ``[size // 2 + 1, 32]`` over the frequencies of a spectrum."""
  edges = mel_edges(rate)
  frequencies = fft.rfftfreq(size, 1.0 / rate)[:, None]
  rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
  falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
  return np.maximum(0.0, np.minimum(rising, falling))


def _check_waveforms(x: np.ndarray) -> None:
  if x.ndim != 2 or (x.dtype != np.int16 and x.dtype.kind != "f"):
    raise ValueError(
      f"Waveforms must be [n, samples], floating point or int16, got {x.dtype} {list(x.shape)}."
    )
  wrong = _out_of_range(x)
  if wrong:
    raise ValueError(f"The array of waveforms {wrong}; divide 16-bit counts by 32768.")


def _out_of_range(x: np.ndarray) -> str:
  """What is wrong with the values, if anything."""
  if x.dtype == np.int16 or not x.size:
    return ""
  low, high = float(x.min()), float(x.max())
  if not np.isfinite([low, high]).all():
    return "holds values that are not finite"
  if low < -1.0 or high > 1.0:
    return f"holds values from {low:g} to {high:g} where -1 to 1 belong"
  return ""


def _unit(x: np.ndarray) -> np.ndarray:
  return x / FULL_SCALE if x.dtype == np.int16 else x.astype(np.float64, copy=False)
