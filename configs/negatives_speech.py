"""Wake words (DROCC paper, section 5.2.3, Figures 3 and 9, Table 9, Appendix E.5).

  export OOD_DATA_DIR=...
  python -m launch.train --config=configs/negatives_speech.py:lf,go --workdir=runs/go
  python -m benchmarks.tables --table=ocln-speech

After the colon: drocc, oe or lf, and the keyword. Clips of Speech Commands are read from the folder
that OOD_DATA_DIR names (speech_commands/WORD/*.wav or speech_commands_subset.npz); tfds serves ten
words only, of the keywords here "go". espeak-ng (a Debian package) speaks the close words.

Radius, learning rate and step size are those of the paper's Table 14 and the released code.
"""

from drocc_jax.registry import NetworkConfig
from launch.data import WakeWord
from launch.methods.drocc import Config, settings_of

# keyword -> radius; those of the paper, then two that have more clips in the small subset.
RADIUS = {
  "marvin": 32.0,
  "seven": 36.0,
  "forward": 40.0,
  "follow": 20.0,
  "go": 32.0,
  "zero": 32.0,
}
KEYWORDS = tuple(RADIUS)


def get_config(name: str = "lf", keyword: str = "") -> Config:
  """A one-layer LSTM of 128 on 98 x 32 log-mel energies.

  Raises:
    ValueError: another name, or a keyword without settings.
  """
  name, _, given = name.partition(",")
  keyword = keyword or given or "go"
  if keyword not in RADIUS:
    raise ValueError(f"The keyword must be one of {', '.join(RADIUS)}; got {keyword}.")
  algorithm = settings_of(name)
  data = WakeWord(keyword=keyword)
  network = NetworkConfig(name="lstm")
  return Config(data, network, algorithm(radius=RADIUS[keyword]), epochs=200, calibration_size=0.1)
