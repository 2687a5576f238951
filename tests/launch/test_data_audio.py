"""Clips and their features: numbers of librosa, tones, and what is refused."""

import logging

import numpy as np
import pytest
from scipy import fft
from scipy.io import wavfile

from launch.data import DataError, audio

TIME = np.arange(16_000) / 16_000
SWEEP = 0.5 * np.sin(2 * np.pi * (300 * TIME + 900 * TIME**2)) + 0.1 * np.cos(
  2 * np.pi * 5000 * TIME
)
LOG_FLOOR = np.log(1e-6)

# librosa 0.11.0: feature.melspectrogram of SWEEP with 56 zeros on either side (librosa puts the
# window of 400 in the middle of 512), n_fft=512, win_length=400, hop_length=160, window="hann",
# center=False, power=2, n_mels=32, fmin=20, fmax=8000, htk=True, norm=None; log of at least 1e-6;
# feature.mfcc of that with n_mfcc=32, norm="ortho". All 98 x 32 numbers agreed within 1e-5.
LIBROSA_LOG_MEL = {
  (0, 3): 7.498829741186883,
  (0, 9): -8.941654520688793,
  (49, 14): -5.155737465347133,
  (49, 27): 4.318308132454664,
  (97, 18): 2.7374700073913196,
  (97, 31): LOG_FLOOR,
  (20, 0): -9.683779062859895,
}
LIBROSA_MFCC = {
  (0, 0): -46.29034738706352,
  (0, 1): 19.567025768246342,
  (49, 2): -11.688211272062702,
  (97, 31): 1.1380799475771282,
}


def tone(frequency, rate=16_000, seconds=1.0):
  return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize(
  ("compute", "wanted"), [(audio.log_mel, LIBROSA_LOG_MEL), (audio.mfcc, LIBROSA_MFCC)]
)
def test_features_are_those_of_librosa(compute, wanted):
  got = compute(SWEEP[None])
  assert (got.shape, got.dtype) == ((1, 98, 32), np.float32)
  np.testing.assert_allclose([got[0][place] for place in wanted], [*wanted.values()], atol=1e-5)


@pytest.mark.parametrize("number", [2, 9, 20, 30])
def test_tone_peaks_in_the_filter_it_is_the_centre_of(number):
  centre = audio.mel_edges()[number + 1]
  got = audio.log_mel(tone(centre)[None])[0]
  assert (got.argmax(axis=1) == number).all()


def test_edges_are_evenly_spaced_on_the_mel_scale():
  edges = audio.mel_edges()
  assert (len(edges), edges[0], edges[-1]) == (34, pytest.approx(20), pytest.approx(8000))
  steps = np.diff(2595 * np.log10(1 + edges / 700))
  np.testing.assert_allclose(steps, (2840.023 - 31.749) / 33, atol=1e-3)  # mels of 8000 and 20 Hz
  assert audio.mel_edges(8000)[-1] == pytest.approx(4000)


def test_silence_is_the_floor():
  np.testing.assert_allclose(audio.log_mel(np.zeros((2, 16_000))), LOG_FLOOR, rtol=1e-6)
  cepstrum = audio.mfcc(np.zeros((1, 16_000), np.int16))[0]
  np.testing.assert_allclose(cepstrum[:, 0], LOG_FLOOR * np.sqrt(32), rtol=1e-6)
  np.testing.assert_allclose(cepstrum[:, 1:], 0.0, atol=1e-4)


def test_half_the_amplitude_is_log_4_less(rng):
  x = rng.uniform(-1, 1, (3, 4000))
  difference = audio.log_mel(x) - audio.log_mel(x / 2)
  np.testing.assert_allclose(difference, np.log(4), atol=1e-5)


def test_counts_are_32768ths(rng):
  x = rng.integers(-32_768, 32_768, (2, 1600)).astype(np.int16)
  np.testing.assert_array_equal(audio.log_mel(x), audio.log_mel(x / 32_768))


def test_a_frame_sees_its_25_ms_alone():
  x = np.zeros((1, 16_000))
  x[0, 1700] = 1.0  # frames of 400 that begin at 1440 and 1600 hold it, not those at 1280 or 1760
  heard = (audio.log_mel(x)[0] > LOG_FLOOR + 1).any(axis=1)
  assert np.flatnonzero(heard).tolist() == [9, 10]


def test_rows_do_not_depend_on_their_batch(rng):
  x = rng.uniform(-1, 1, (audio.ROWS_AT_ONCE + 3, 800))
  np.testing.assert_allclose(audio.log_mel(x)[-2:], audio.log_mel(x[-2:]), atol=1e-6)
  assert audio.log_mel(x[:0]).shape == (0, 3, 32)


@pytest.mark.parametrize(("rate", "frames"), [(8000, 98), (48_000, 98)])
def test_other_rates_have_the_same_frames(rate, frames):
  assert audio.log_mel(np.zeros((1, rate)), rate).shape == (1, frames, 32)


def test_mfcc_keeps_distances(rng):
  x = rng.uniform(-0.1, 0.1, (2, 2000))
  distances = [
    np.linalg.norm(compute(x)[0] - compute(x)[1]) for compute in (audio.log_mel, audio.mfcc)
  ]
  assert distances[0] == pytest.approx(distances[1], rel=1e-5)
  back = fft.idct(audio.mfcc(x), norm="ortho", axis=-1)
  np.testing.assert_allclose(back, audio.log_mel(x), atol=1e-4)


@pytest.mark.parametrize(
  ("x", "rate", "message"),
  [
    (np.zeros(16_000), 16_000, r"must be \[n, samples\], .*, got float64 \[16000\]"),
    (np.zeros((1, 16_000), np.int32), 16_000, r"got int32 \[1, 16000\]"),
    (np.full((1, 16_000), 300.0), 16_000, "from 300 to 300 where -1 to 1 belong; divide 16-bit"),
    (np.full((1, 16_000), np.nan), 16_000, "holds values that are not finite"),
    (np.zeros((1, 399)), 16_000, r"at least 400 samples \(25 ms\), got 399"),
    (np.zeros((1, 399)), 100, "rate must be at least 1000 samples per second, got 100"),
  ],
)
def test_refuses_what_is_no_waveform(x, rate, message):
  with pytest.raises(ValueError, match=message):
    audio.mfcc(x, rate)


def test_one_second_keeps_one_second(caplog):
  caplog.set_level(logging.INFO)
  got = audio.one_second(SWEEP, 16_000)
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, SWEEP.astype(np.float32))
  assert not caplog.records


def test_shorter_clips_are_padded_at_the_end():
  got = audio.one_second(np.full(100, -16_384, np.int16), 16_000)
  np.testing.assert_array_equal(got, np.repeat(np.array([-0.5, 0], np.float32), [100, 15_900]))


def test_of_longer_clips_the_loudest_second_is_kept(caplog):
  x = np.full(48_000, 0.01)
  x[17_000:33_000] = 0.02
  got = audio.one_second(x, 16_000, "long.wav")
  np.testing.assert_array_equal(got, np.full(16_000, 0.02, np.float32))
  assert caplog.messages == ["long.wav lasts 3.00 s; its loudest second is kept."]


@pytest.mark.parametrize(
  ("x", "samples", "start"),
  [([0, 1, 0, 1, 0], 1, 1), ([1, 0, -3, 2, 1], 2, 2), ([0, 0, 0], 2, 0), ([1, 2], 2, 0)],
)
def test_loudest_is_the_first_stretch_of_most_energy(x, samples, start):
  x = np.array(x, float)
  np.testing.assert_array_equal(audio.loudest(x, samples), x[start : start + samples])


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(rate, caplog):
  caplog.set_level(logging.INFO)
  got = audio.one_second(0.5 * tone(440, rate), rate, "a.wav")
  assert caplog.messages == [f"Resampling a.wav from {rate} Hz to 16000 Hz."]
  np.testing.assert_allclose(got[200:-200], 0.5 * tone(440)[200:-200], atol=2e-3)


def test_resampling_stays_in_range():
  got = audio.one_second(np.sign(tone(100, 8000) + 1e-9), 8000)
  assert np.abs(got).max() == 1.0


def test_channels_are_averaged():
  got = audio.one_second(np.stack([SWEEP, -SWEEP, 0.3 + 0 * SWEEP], axis=1), 16_000)
  np.testing.assert_allclose(got, 0.1, atol=1e-7)


def test_silence_is_legal():
  assert not audio.one_second(np.zeros(5), 16_000).any()


@pytest.mark.parametrize(
  ("x", "rate", "message"),
  [
    (np.zeros(0), 16_000, r"^b\.wav holds no samples; record it again\.$"),
    (np.array([0.0, np.inf]), 16_000, r"^b\.wav holds values that are not finite; divide"),
    (np.array([0.0, -1.5]), 16_000, r"^b\.wav holds values from -1\.5 to 0 where -1 to 1 belong"),
    (np.zeros((2, 2, 2)), 16_000, r"^b\.wav must be floating point or int16, .*\[2, 2, 2\]\.$"),
    (np.zeros(9, np.int64), 16_000, r"^b\.wav must be floating point or int16, .* got int64"),
    (np.zeros(9), 0, r"^b\.wav has a rate of 0; it must be at least 1"),
  ],
)
def test_refuses_what_is_no_recording(x, rate, message):
  with pytest.raises(DataError, match=message):
    audio.one_second(x, rate, "b.wav")


def test_to_int16_undoes_the_division(rng):
  x = rng.integers(-32_768, 32_768, 1000).astype(np.int16)
  np.testing.assert_array_equal(audio.to_int16(x / 32_768), x)
  assert audio.to_int16(np.array([1.0, -1.0, 0.4 / 32_768])).tolist() == [32_767, -32_768, 0]


@pytest.mark.parametrize(
  ("written", "wanted"),
  [
    (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
    (np.array([-32_768, 0, 16_384], np.int16), [-1, 0, 0.5]),
    (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
    (np.array([-0.25, 0, 1], np.float32), [-0.25, 0, 1]),
    (np.array([-0.25, 0, 1], np.float64), [-0.25, 0, 1]),
    (np.array([[0, 16_384], [8192, 0]], np.int16), [[0, 0.5], [0.25, 0]]),
  ],
)
def test_reads_wav(tmp_path, written, wanted):
  wavfile.write(tmp_path / "a.WAV", 11_025, written)
  got, rate = audio.read_wav(tmp_path / "a.WAV")
  assert (got.dtype, rate) == (np.float32, 11_025)
  np.testing.assert_array_equal(got, np.array(wanted, np.float32))


def test_reads_24_bits_and_passes_over_foreign_chunks(tmp_path):
  wavfile.write(tmp_path / "a.wav", 16_000, np.zeros(2, np.int16))
  whole = bytearray((tmp_path / "a.wav").read_bytes()[:36])
  whole[32:36] = bytes([3, 0, 24, 0])  # block align and bits
  whole[28:32] = (3 * 16_000).to_bytes(4, "little")
  samples = b"".join(value.to_bytes(3, "little", signed=True) for value in (-(2**23), 2**22))
  whole += (
    b"note" + (2).to_bytes(4, "little") + b"hi" + b"data" + (6).to_bytes(4, "little") + samples
  )
  whole[4:8] = (len(whole) - 8).to_bytes(4, "little")
  (tmp_path / "b.wav").write_bytes(whole)
  assert audio.read_wav(tmp_path / "b.wav")[0].tolist() == [-1.0, 0.5]


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("a.wav", None, r"There is no file .*a\.wav\."),
    ("a.mp3", b"x", r"a\.mp3 does not end in \.wav; convert it"),
    ("a.wav", b"", r"a\.wav cannot be read, it is damaged"),
    ("a.wav", b"hello, I am no sound", r"a\.wav cannot be read, it is damaged"),
    ("a.wav", "cut", r"a\.wav cannot be read, it is damaged .*Reached EOF"),
    ("a.wav", "header", r"a\.wav cannot be read, it is damaged"),
    ("a.wav", "none", r"a\.wav holds no samples"),
  ],
)
def test_what_is_no_wav_is_one_sentence(tmp_path, name, content, message):
  path = tmp_path / name
  if isinstance(content, str):
    wavfile.write(path, 16_000, np.zeros(0 if content == "none" else 1000, np.int16))
    content = path.read_bytes()[: {"cut": 1000, "header": 30, "none": None}[content]]
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(DataError, match=message) as caught:
    audio.read_wav(path)
  assert "\n" not in str(caught.value)


def test_reads_a_folder_of_words(tmp_path, caplog):
  caplog.set_level(logging.INFO)
  for name, rate, value in (
    ("yes/b.wav", 8000, 8192),
    ("yes/a.wav", 16_000, 4096),
    ("no/c.WAV", 8000, 16_384),
    ("_noise_/d.wav", 16_000, 1),
  ):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    wavfile.write(tmp_path / name, rate, np.full(rate, value, np.int16))
  (tmp_path / "yes" / "notes.txt").write_text("hello")
  wavfile.write(tmp_path / "lost.wav", 16_000, np.zeros(9, np.int16))
  paths = audio.wav_files(tmp_path)
  assert [path.parent.name for path in paths] == ["no", "yes", "yes"]
  x = audio.read_clips(paths)
  assert (x.shape, x.dtype) == ((3, 16_000), np.int16)
  np.testing.assert_allclose(x[:, 8000] / audio.FULL_SCALE, [0.5, 0.125, 0.25], atol=1e-3)
  assert caplog.messages == ["Resampled 2 of 3 clips from 8000 Hz to 16000 Hz."]


def test_files_are_in_order(tmp_path, rng):
  names = [f"{word}/{number}.wav" for word in ("a", "b") for number in range(8)]
  for name in rng.permutation(names):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  assert [str(path.relative_to(tmp_path)) for path in audio.wav_files(tmp_path)] == names


def test_a_folder_without_clips_is_one_sentence(tmp_path):
  with pytest.raises(DataError, match=r"has no sub-folder with \.wav files; make one sub-folder"):
    audio.wav_files(tmp_path)
  with pytest.raises(DataError, match="There is no folder"):
    audio.wav_files(tmp_path / "none")
  (tmp_path / "go").mkdir()
  wavfile.write(tmp_path / "go" / "wild.wav", 16_000, np.full(9, 2.0, np.float32))
  with pytest.raises(DataError, match=r"wild\.wav holds values from 2 to 2 where -1 to 1 belong"):
    audio.read_clips(audio.wav_files(tmp_path))
