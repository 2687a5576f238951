"""The text of a C99 header that scores records; ``c_model`` says of which detectors."""

from collections.abc import Iterable, Sequence
import json
import re
import textwrap

import jinja2
import numpy as np

WIDTH = 100
TYPES = {"int8": "signed char", "int16": "short", "int32": "int", "float32": "float"}
TYPES["float64"] = "double"

_ENVIRONMENT = jinja2.Environment(
  trim_blocks=True,
  lstrip_blocks=True,
  keep_trailing_newline=True,
  undefined=jinja2.StrictUndefined,
)
HEADER = """\
/*
{{ told }}
 */
#ifndef {{ P }}_H
#define {{ P }}_H

#define {{ P }}_COLUMNS {{ columns }}
#define {{ P }}_THRESHOLD {{ threshold }}
{% if calibration %}
#define {{ P }}_CALIBRATION {{ calibration }}
{% endif %}

#ifdef __cplusplus
extern "C" {
#endif

/* Score of a record, higher = more anomalous; NaN where a value is NaN, infinite or too large. */
float {{ p }}_score(const {{ value }} x[{{ P }}_COLUMNS]);

{% if calibration %}
/* Share of held-out typical records with this score or a higher one, itself among them. */
float {{ p }}_p_value(float score);

{% endif %}
/* 1: anomalous, 0: typical, -1: the score is NaN. */
int {{ p }}_decision(float score);

#ifdef __cplusplus
}
#endif
#endif

#if defined({{ P }}_IMPLEMENTATION) && !defined({{ P }}_IMPLEMENTED)
#define {{ P }}_IMPLEMENTED

#include <float.h>
#include <math.h>

{% for name, values in arrays.items() %}
static const {{ values | c_type }} {{ p }}_{{ name }}[{{ values | length }}] = {
{{ values | listed }}
};

{% endfor %}
{% for kind in kinds %}
static void {{ p }}_dense_{{ kind }}(const float *restrict x, int inputs,
    const {{ types[kind] }} *restrict row, {{ "const float *restrict unit," if kind != "float32" }}
    const float *restrict bias, int units, float *restrict y) {
  int i, j;
  for (j = 0; j < units; ++j) y[j] = 0.0f;
  for (i = 0; i < inputs; ++i, row += units) {
    const float value = x[i];
    for (j = 0; j < units; ++j) y[j] += value * (float)row[j];
  }
  for (j = 0; j < units; ++j) y[j] = {{ "unit[j] * " if kind != "float32" }}y[j] + bias[j];
}

{% endfor %}
{% if activation %}
static void {{ p }}_activate(float *x, int units) {
  int j;
{% if activation == "silu" %}
  for (j = 0; j < units; ++j) x[j] /= 1.0f + expf(-x[j]);
{% else %}
  for (j = 0; j < units; ++j) x[j] = x[j] > 0.0f ? x[j] : 0.0f;
{% endif %}
}

{% endif %}
float {{ p }}_score(const {{ value }} x[{{ P }}_COLUMNS]) {
  float z[{{ sizes.z }}], a[{{ sizes.a }}], {{ "b[%d], " % sizes.b if sizes.b }}total = 0.0f;
  int i;
  for (i = 0; i < {{ P }}_COLUMNS; ++i)
    if (!(x[i] >= -FLT_MAX && x[i] <= FLT_MAX)) return NAN;
  for (i = 0; i < {{ inputs }}; ++i) {
{% set column = p ~ "_kept[i]" if "kept" in arrays else "i" %}
{% if "log_unit" in arrays %}
    const double size = {{ p }}_log_unit[{{ column }}], raw = x[{{ column }}];
    const double number = size > 0.0 ? asinh(raw / size) : raw;
{% elif "offset" in arrays %}
    const double number = x[{{ column }}];
{% endif %}
{% if "offset" in arrays %}
    float value = (float)(number - {{ p }}_offset[{{ column }}]);
{% elif "log_unit" in arrays %}
    float value = (float)number;
{% else %}
    float value = x[{{ column }}];
{% endif %}
    value = (value - {{ p }}_center[i]) / {{ p }}_scale[i];
{% if clip %}
    value = value < -{{ clip }} ? -{{ clip }} : value > {{ clip }} ? {{ clip }} : value;
{% endif %}
    z[i] = value;
{% if squares %}
    z[{{ inputs }} + i] = value * value / sqrtf(1.0f + value * value / 9.0f);
{% endif %}
  }
{% for call in calls %}
  {{ call }}
{% endfor %}
  return -total{{ " / %d.0f" % members if members > 1 }};
}

{% if calibration %}
float {{ p }}_p_value(float score) {
  long low = 0, high = {{ P }}_CALIBRATION;
  if (score != score) return score;
  while (low < high) { /* the first of the ascending scores that is not below */
    const long middle = low + (high - low) / 2;
    if ({{ p }}_calibration[middle] < score) low = middle + 1;
    else high = middle;
  }
  return (float)({{ P }}_CALIBRATION + 1 - low) / (float)({{ P }}_CALIBRATION + 1);
}

{% endif %}
int {{ p }}_decision(float score) {
  return score > {{ P }}_THRESHOLD ? 1 : score == score ? 0 : -1;
}

#endif
"""


def prefix_of(stem: str) -> str:
  """What the names of a header begin with: its file's name as an identifier of C.

  Examples:
    >>> prefix_of("pump"), prefix_of("pump 2.1"), prefix_of("7th")
    ('pump', 'pump_2_1', 'detector_7th')
  """
  name = re.sub(r"[^A-Za-z0-9_]", "_", stem).strip("_").lower()
  return name if name[:1].isalpha() else f"detector_{name}".strip("_")


def number(value: float, double: bool = False) -> str:
  """A finite number as C reads it back to the bit, float unless ``double``.

  Examples:
    >>> number(1.0), number(0.1), number(-2e30), number(0.1, double=True)
    ('1.0f', '0.100000001f', '-2e+30f', '0.10000000000000001')
  """
  text = f"{value:.17g}" if double else f"{np.float32(value):.9g}"
  text += "" if "." in text or "e" in text else ".0"
  return text if double else f"{text}f"


def comment(paragraphs: Iterable[str]) -> str:
  """Paragraphs as the lines of a comment, which nothing in them ends."""
  lines = []
  for paragraph in paragraphs:
    safe = paragraph.replace("*/", "* /").replace("/*", "/ *")
    lines += textwrap.wrap(safe, WIDTH - 3, break_long_words=False, break_on_hyphens=False) or [""]
  return "\n".join(f" * {line}".rstrip() for line in lines)


def names(columns: Sequence[str]) -> str:
  """Names of columns for a comment, in ASCII."""
  return ", ".join(json.dumps(name) for name in columns)


def render(**parts: object) -> str:
  """The header, of the names in ``HEADER``."""
  return _ENVIRONMENT.from_string(HEADER).render(types=TYPES, **parts)


def _listed(values: np.ndarray) -> str:
  """The elements of a one-dimensional array, some on each line."""
  if values.dtype.kind == "f":
    shown = [number(value, values.dtype.itemsize == 8) for value in values.tolist()]
  else:
    shown = list(map(str, values.tolist()))
  return textwrap.fill(
    ", ".join(shown), WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
  )


_ENVIRONMENT.filters["listed"] = _listed
_ENVIRONMENT.filters["c_type"] = lambda values: TYPES[values.dtype.name]
