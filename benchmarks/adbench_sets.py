"""Which sets of ADBench settings are chosen on, and which only say what came of it."""

# Settings are chosen on the first half; what is claimed of them rests on the second. Alphabetical
# order deals them out, one for the one half and one for the other; sets cut from the same data
# (annthyroid and thyroid, breastw and wbc, satellite and satimage_2) count as one. annthyroid is
# the first, and thyroid, which had been looked at, is so among the first.
DEVELOPMENT = (
  "annthyroid",
  "cardio",
  "glass",
  "letter",
  "musk",
  "pendigits",
  "satellite",
  "satimage_2",
  "thyroid",
  "vowels",
)
REPORT = (
  "breastw",
  "fault",
  "ionosphere",
  "mammography",
  "optdigits",
  "pima",
  "shuttle",
  "wbc",
  "wine",
)
# Further sets of ADBench, which nothing was chosen on; copies of the data above are left out. Their
# files, in lower case and with _ for other signs, go into the same folder.
MORE = (
  "aloi",
  "campaign",
  "cardiotocography",
  "celeba",
  "cover",
  "donors",
  "hepatitis",
  "http",
  "internetads",
  "landsat",
  "lymphography",
  "magic_gamma",
  "mnist",
  "pageblocks",
  "skin",
  "smtp",
  "spambase",
  "stamps",
  "vertebral",
  "waveform",
  "wilt",
  "wpbc",
  "yeast",
)
