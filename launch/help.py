"""What ``--help`` says: the flags of a command, and every field of its configuration."""

from collections.abc import Iterator
import dataclasses
import inspect
import pathlib
import re
from typing import Any

from absl import flags

_SECTION = re.compile(r"^Attributes:\n((?:(?:  .*)?\n?)+)", re.MULTILINE)
_ENTRY = re.compile(r"^  (\w+): (.*(?:\n    .*)*)", re.MULTILINE)
CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


def described(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
  """Yields ``(dotted name, value, description)`` of every field of nested dataclasses.

  Descriptions are the entries under "Attributes:" of the docstrings of the class and its bases.
  """
  texts: dict[str, str] = {}
  for cls in reversed(type(config).__mro__):
    for section in _SECTION.findall(inspect.cleandoc(cls.__doc__ or "") + "\n"):
      texts |= dict(_ENTRY.findall(section))
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      yield from described(value, f"{prefix}{field.name}.")
    else:
      yield prefix + field.name, value, " ".join(texts.get(field.name, "").split())


def text(module: Any, config: Any = None) -> str:
  """The help of a command.

  Args:
    module: of the command; its docstring comes first, its flags and those of the launcher follow.
    config: what ``--config`` gives; None lists the configuration files instead.
  """
  lines = [inspect.cleandoc(module.__doc__ or ""), "", "Flags:"]
  of_config = []
  by_module = flags.FLAGS.flags_by_module_dict()
  for name in sorted(by_module, key=lambda name: name != module.__name__):
    if name.startswith("launch.") or name in (module.__name__, module.__file__):
      for flag in by_module[name]:
        if flag.name.startswith("config."):
          continue
        shown = "" if flag.default in (None, "", False) else f" (default: {flag.default})"
        lines += _entry(f"--{flag.name}", f"{flag.help}{shown}")
  if "config" in flags.FLAGS:
    if config is None:
      lines += ["", "Configuration files, whose fields --config=FILE --help lists:"]
      for path in sorted(CONFIGS.glob("[!_]*.py")):
        of_config += _entry(f"configs/{path.name}", _first_line(path))
    else:
      lines += ["", "Fields of the configuration, each with its value:"]
      for name, value, description in described(config):
        of_config += _entry(f"--config.{name}={value}", description)
  return "\n".join(lines + of_config) + "\n"


def _first_line(path: pathlib.Path) -> str:
  return path.read_text().split('"""', 2)[1].strip().splitlines()[0]


def _entry(name: str, description: str) -> list[str]:
  """A name, and what it is on lines of its own, at most 96 columns wide."""
  lines, line = [f"  {name}"], "     "
  for word in description.split():
    if len(line) + len(word) >= 96:
      lines.append(line)
      line = "     "
    line += f" {word}"
  return [*lines, line] if line.strip() else lines
