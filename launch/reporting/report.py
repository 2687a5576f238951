"""One self-contained HTML page: text, tables and figures, nothing fetched from elsewhere."""

import base64
from collections.abc import Sequence
import io
import pathlib
from typing import Any

import jinja2
from matplotlib import image as mpl_image
from matplotlib.figure import Figure
import numpy as np

from detector_jax import atomic

_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 0 auto;
         padding: 1rem; overflow-wrap: anywhere; }
  h1 { font-size: 1.6rem; line-height: 1.3; } h2 { font-size: 1.2rem; margin-top: 2rem; }
  p { max-width: 46rem; }
  .conclusion { font-size: 1.15rem; font-weight: 600; }
  /* The grey edges are the box's own; the white ones move with its content and cover them at its
     ends, so that an edge is grey where there is more to see. */
  .scroll { overflow-x: auto; background:
    linear-gradient(to right, #fff 33%, #fff0) left / 3rem 100% local,
    linear-gradient(to left, #fff 33%, #fff0) right / 3rem 100% local,
    linear-gradient(to right, #0003, #0000) left / 0.8rem 100%,
    linear-gradient(to left, #0003, #0000) right / 0.8rem 100%;
    background-repeat: no-repeat; }
  .hint { display: none; color: #555; font-size: 0.8rem; margin: 0.3rem 0; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
  th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd;
           white-space: nowrap; overflow-wrap: normal; }
  th { vertical-align: bottom; white-space: normal; }
  th:first-child, td:first-child, .prose th, .prose td { text-align: left; white-space: normal; }
  td:first-child { min-width: 5rem; }
  .prose td { overflow-wrap: break-word; vertical-align: top; }
  tr.total td { font-weight: 600; border-top: 2px solid #999; }
  figure { display: inline-block; max-width: 100%; margin: 1rem 1rem 0 0; vertical-align: top; }
  img { display: block; width: 100%; height: auto; }
  figcaption { color: #555; font-size: 0.9rem; line-height: 1.35; }
  .gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr));
             gap: 0.8rem; }
  .gallery figure { display: block; margin: 0; }
  .gallery img { aspect-ratio: 1; object-fit: contain; image-rendering: pixelated; }
  .gallery figcaption { font-size: 0.8rem; }
  @media (max-width: 40rem) {
    th, td { padding: 0.25rem 0.35rem; }
    .wide + .hint { display: block; } .wide th { white-space: nowrap; }
    .records, .records tbody, .records tr, .records td { display: block; }
    .records thead { display: none; }
    .records tr { border-bottom: 1px solid #999; padding: 0.4rem 0; }
    .records td { border: 0; padding: 0.1rem 0; }
    .records td::before { content: attr(data-head) ": "; color: #555; }
  }
  pre { overflow-x: auto; font-size: 0.8rem; overflow-wrap: normal; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for part in parts %}
{% if part.kind == "heading" %}
<h2>{{ part.text }}</h2>
{% elif part.kind == "text" %}
<p>{{ part.text }}</p>
{% elif part.kind == "conclusion" %}
<p class="conclusion">{{ part.text }}</p>
{% elif part.kind == "table" %}
<div class="scroll{% if part.wide %} wide{% endif %}" tabindex="0"><table{% if part.prose %}
 class="prose{% if part.head | length > 3 %} records{% endif %}"{% endif %}>
<thead><tr>{% for cell in part.head %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}
<tr{% if part.total and loop.last %} class="total"{% endif %}>
{% for cell in row %}<td data-head="{{ part.head[loop.index0] }}">{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% if part.wide %}
<p class="hint">{{ hint }}</p>
{% endif %}
{% elif part.kind == "details" %}
<details><summary>{{ part.title }}</summary><pre tabindex="0">{{ part.text }}</pre></details>
{% elif part.kind == "gallery" %}
<div class="gallery">
{% for data, caption in part.pictures %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>
{% else %}
<figure style="width: {{ part.width }}px">
<div class="scroll{% if part.wide %} wide{% endif %}" tabindex="0"><img alt="{{ part.caption }}"
 style="min-width: {{ part.least }}px" src="data:image/png;base64,{{ part.data }}"></div>
{% if part.wide %}
<p class="hint">{{ hint }}</p>
{% endif %}
<figcaption>{{ part.caption }}</figcaption></figure>
{% endif %}
{% endfor %}
</body>
</html>
""")

PIXELS_PER_INCH = 96
LEAST_PIXELS_PER_INCH = 60
PHONE_PIXELS = 358  # of a screen of 390, less the margins
PHONE_LETTERS = 44  # of a table's row, with a cell's padding counted as one letter
HINT = "Scroll sideways to see all of it."


class Report:
  """Collects the parts of a page, then writes it.

  Args:
    title: of the page.
    folder: figures are also written there, as PNG files.
  """

  def __init__(self, title: str, folder: pathlib.Path):
    self._title = title
    self._folder = folder
    self._parts: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)

  def heading(self, text: str) -> None:
    """Starts a section."""
    self._parts.append({"kind": "heading", "text": text})

  def conclusion(self, text: str) -> None:
    """Adds a sentence that is set off as what the page comes to."""
    self._parts.append({"kind": "conclusion", "text": text})

  def text(self, text: str) -> None:
    """Adds a paragraph."""
    self._parts.append({"kind": "text", "text": text})

  def table(
    self,
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    total: bool = False,
    prose: bool = False,
  ) -> None:
    """Adds a table of cells that are shown as they are.

    On a phone, numbers that are too wide scroll, with a hint that they do; text in up to three
    columns is broken into lines, and in more, each row becomes a list of its cells.

    Args:
      head: a name per column.
      rows: of as many cells each.
      total: sets off the last row.
      prose: cells are text that is broken into lines.
    """
    self._parts.append(
      {
        "kind": "table",
        "head": head,
        "rows": rows,
        "total": total,
        "prose": prose,
        "wide": not prose and _letters(head, rows) > PHONE_LETTERS,
      }
    )

  def details(self, title: str, text: str) -> None:
    """Adds preformatted text that opens on a click on its title."""
    self._parts.append({"kind": "details", "title": title, "text": text})

  def gallery(self, pictures: Sequence[tuple[np.ndarray, str]]) -> None:
    """Adds small pictures, as many to a row as fit.

    Args:
      pictures: with a caption each; ``[height, width]``, white to black from its smallest to its
        largest value, or ``[height, width, 3]`` in [0, 1].
    """
    encoded = [(_png(image), caption) for image, caption in pictures]
    self._parts.append({"kind": "gallery", "pictures": encoded})

  def figure(
    self, name: str, figure: Figure, caption: str, least: int = LEAST_PIXELS_PER_INCH
  ) -> pathlib.Path:
    """Adds a figure and writes it as ``NAME.png``; returns that path.

    It is shrunk to the width of the screen, but not so far that its text cannot be read: below
    that it scrolls.

    Args:
      name: of the file.
      figure: to draw.
      caption: below it.
      least: pixels per inch at which its text can still be read.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    path = self._folder / f"{name}.png"
    path.write_bytes(buffer.getvalue())
    data = base64.b64encode(buffer.getvalue()).decode()
    inches = figure.get_figwidth()
    self._parts.append(
      {
        "kind": "figure",
        "data": data,
        "caption": caption,
        "width": round(PIXELS_PER_INCH * inches),
        "least": round(least * inches),
        "wide": least * inches > PHONE_PIXELS,
      }
    )
    return path

  def write(self, name: str = "report.html") -> pathlib.Path:
    """Writes the page, whole or not at all; returns its path."""
    path = self._folder / name
    atomic.write_text(path, _PAGE.render(title=self._title, parts=self._parts, hint=HINT))
    return path


def _letters(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
  """Of a row that no line break helps: heads and first cells may be broken, other cells may not."""
  longest = [
    max(len(max(name.split(), key=len, default="")), *(len(str(row[place])) for row in rows))
    if place
    else max(len(word) for cell in (name, *(row[0] for row in rows)) for word in cell.split())
    for place, name in enumerate(head)
  ]
  return sum(longest) + len(longest)


def _png(image: np.ndarray) -> str:
  buffer = io.BytesIO()
  if image.ndim == 2:
    mpl_image.imsave(buffer, image, cmap="gray", format="png")
  else:
    mpl_image.imsave(buffer, np.clip(image, 0.0, 1.0), format="png")
  return base64.b64encode(buffer.getvalue()).decode()
