"""What mkdocs does not do by itself: README and its kin as pages, links, and the reference.

README.md, CONTRIBUTING.md and CHANGELOG.md are pages of the site, and what the pages link to
outside of docs/ (figures, JSON files, notebooks) goes along, so that every link works here and in
the repository. Three comments are replaced: ``<!-- api: LIBRARY -->`` by the library's modules,
``<!-- configs -->`` by every configuration with every field, ``<!-- commands -->`` by what each
command answers to --help.
"""

from collections.abc import Iterator
import importlib
import inspect
import pathlib
import posixpath
import re
import subprocess
import sys
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from launch.data import SOURCES
from launch.help import described

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = {
  "README.md": "index.md",
  "CONTRIBUTING.md": "contributing.md",
  "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(
  r"(?P<text>!?\[[^\]]*\])\((?P<target>(?!https?:|mailto:|#)[^)\s#]+)(?P<anchor>#[^)]*)?\)"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the pages from outside of docs/, and whatever a page links to out there."""
  for source, uri in PAGES.items():
    files.append(File.generated(config, uri, content=(ROOT / source).read_text()))
  linked = set()
  for page in files.documentation_pages():
    linked |= {target for target, _ in _targets(page.content_string, page.src_uri)}
  for target in sorted(linked):
    path = ROOT / target
    if path.is_file() and not target.startswith("docs/") and target not in PAGES:
      files.append(File.generated(config, target, abs_src_path=str(path)))
  return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
  """Turns links of the repository into links of the site, and writes the reference."""
  del config, files
  markdown = relinked(markdown, page.file.src_uri)
  markdown = re.sub(r"<!-- api: (\w+) -->", lambda m: api(m[1]), markdown)
  if "<!-- configs -->" in markdown:
    markdown = markdown.replace("<!-- configs -->", configurations())
  if "<!-- commands -->" in markdown:
    markdown = markdown.replace("<!-- commands -->", commands())
  return markdown


def relinked(markdown: str, uri: str) -> str:
  """A page's links, from places in the repository to places in the site."""

  def link(match: re.Match[str]) -> str:
    target = _in_repository(match["target"], uri)
    if (ROOT / target).is_dir():
      return match["text"].removeprefix("[").removesuffix("]")
    place = posixpath.relpath(_in_site(target), posixpath.dirname(uri) or ".")
    return f"{match['text']}({place}{match['anchor'] or ''})"

  return LINK.sub(link, markdown)


def _targets(markdown: str, uri: str) -> Iterator[tuple[str, str]]:
  for match in LINK.finditer(markdown):
    yield _in_repository(match["target"], uri), match["anchor"] or ""


def _in_repository(target: str, uri: str) -> str:
  source = next((source for source, page in PAGES.items() if page == uri), f"docs/{uri}")
  return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _in_site(target: str) -> str:
  return PAGES.get(target, target.removeprefix("docs/"))


def api(library: str) -> str:
  """A directive for every module of a library that has public names, the library's own first."""
  parts = [f"::: {library}\n    options: {{heading_level: 2, members: false}}"]
  for path in sorted((ROOT / library).glob("[a-z]*.py")):
    if path.stem != "version":
      parts.append(f"::: {library}.{path.stem}\n    options: {{heading_level: 2}}")
  return "\n\n".join(parts) + "\n"


def configurations() -> str:
  """Every class of settings with every field, and what each file of configs/ sets of them."""
  found = {}
  for path in sorted((ROOT / "configs").glob("[a-z]*.py")):
    module = importlib.import_module(f"configs.{path.stem}")
    found[path.name] = (module.__doc__ or "").strip(), module.get_config()
  methods = {type(config) for _, config in found.values()}
  parts = ["## By method"]
  for method in sorted(methods, key=_title):
    defaults = method()
    rows = [f"| `{name}` | `{value!r}` | {text} |" for name, value, text in leaves(defaults)]
    names = ", ".join(f"`{name}`" for name, (_, config) in found.items() if type(config) is method)
    parts.append(
      f"### {_title(method)}\n\nOf {names}.\n\n| field | default | |\n| --- | --- | --- |"
    )
    parts[-1] += "\n" + "\n".join(rows)
  parts.append("## By data source\n\nWhat goes after `--config.data.`, by the source at hand.")
  for source in SOURCES:
    rows = [f"| `{name}` | `{value!r}` | {text} |" for name, value, text in leaves(source())]
    about = inspect.cleandoc(source.__doc__ or "").split("\n\n")[0]
    parts.append(
      f"### {source.__name__}\n\n{about}\n\n| field | default | |\n| --- | --- | --- |\n"
      + "\n".join(rows)
    )
  parts.append("## By file\n\nFields that a file sets otherwise than the defaults above.")
  for name, (docstring, config) in found.items():
    plain = {field: value for field, value, _ in leaves(type(config)())}
    rows = [
      f"| `{field}` | `{value!r}` |"
      for field, value, _ in leaves(config)
      if field not in plain or plain[field] != value
    ]
    parts.append(f"### {name}\n\n```text\n{inspect.cleandoc(docstring)}\n```")
    if rows:
      parts[-1] += "\n\n| field | value |\n| --- | --- |\n" + "\n".join(rows)
  return "\n\n".join(parts) + "\n"


def _title(method: type) -> str:
  return (
    f"{getattr(method, 'title', method.__module__)} (`{method.__module__}.{method.__qualname__}`)"
  )


def leaves(config: Any) -> Iterator[tuple[str, Any, str]]:
  """``(dotted name, value, what it is in one line of Markdown)`` of every field."""
  for name, value, text in described(config):
    text = text.replace("``", "`").replace("|", "\\|")
    yield name, value, text[:1].upper() + text[1:]


def commands() -> str:
  """What every command of the launcher, and the one of ``detector_jax``, answer to --help."""
  modules = [
    f"launch.{path.stem}"
    for path in sorted((ROOT / "launch").glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
  ]
  parts = []
  for module in ["detector_jax", *modules]:
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout.replace(str(ROOT) + "/", "").strip()
    parts.append(f"## python -m {module}\n\n```text\n{text}\n```")
  return "\n\n".join(parts) + "\n"
