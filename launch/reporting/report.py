"""One self-contained HTML page: text, tables and figures, nothing fetched from elsewhere."""

import base64
from collections.abc import Sequence
import io
import os
import pathlib
from typing import Any

import jinja2
from matplotlib.figure import Figure

_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 0 auto;
         padding: 1rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
  th, td { padding: 0.25rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd;
           white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; }
  tr.total td { font-weight: 600; border-top: 2px solid #999; }
  figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
  figcaption, .note { color: #555; font-size: 0.9rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for part in parts %}
{% if part.kind == "heading" %}
<h2>{{ part.text }}</h2>
{% elif part.kind == "text" %}
<p>{{ part.text }}</p>
{% elif part.kind == "table" %}
<div class="scroll"><table>
<thead><tr>{% for cell in part.head %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}
<tr{% if part.total and loop.last %} class="total"{% endif %}>
{% for cell in row %}<td>{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% else %}
<figure><img alt="{{ part.caption }}" src="data:image/png;base64,{{ part.data }}">
<figcaption>{{ part.caption }}</figcaption></figure>
{% endif %}
{% endfor %}
</body>
</html>
""")


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

  def text(self, text: str) -> None:
    """Adds a paragraph."""
    self._parts.append({"kind": "text", "text": text})

  def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]], total: bool = False) -> None:
    """Adds a table of cells that are shown as they are; ``total`` sets off the last row."""
    self._parts.append({"kind": "table", "head": head, "rows": rows, "total": total})

  def figure(self, name: str, figure: Figure, caption: str) -> pathlib.Path:
    """Adds a figure and writes it as ``NAME.png``; returns that path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144)
    path = self._folder / f"{name}.png"
    path.write_bytes(buffer.getvalue())
    data = base64.b64encode(buffer.getvalue()).decode()
    self._parts.append({"kind": "figure", "data": data, "caption": caption})
    return path

  def write(self, name: str = "report.html") -> pathlib.Path:
    """Writes the page, whole or not at all; returns its path."""
    path = self._folder / name
    temporary = path.with_suffix(".tmp")
    temporary.write_text(_PAGE.render(title=self._title, parts=self._parts), encoding="utf-8")
    os.replace(temporary, path)
    return path
