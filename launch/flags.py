"""Flags that all commands share, and errors in one line.

A command's module defines its flags, then ``flags.run(main)``. Anything a user can cause - an
unknown flag, a bad override, an unreadable file - ends in one sentence on standard error and exit
code 2 (flags) or 1; ``--traceback`` shows where it came from.
"""

from collections.abc import Callable, Iterator
import dataclasses
import difflib
import runpy
import sys
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

_DEVICE = flags.DEFINE_enum(
  "device", "auto", ["auto", "cpu", "gpu", "tpu"], "Where to compute; auto takes what JAX finds."
)
_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show the traceback of an error.")


def config_flag(name: str = "config") -> Any:
  """Defines ``--config=FILE`` with ``--config.FIELD=VALUE`` overrides."""
  return config_flags.DEFINE_config_file(
    name, None, "Configuration file; override a field with --config.FIELD=VALUE."
  )


def run(main: Callable[[], None]) -> None:
  """Parses the flags, chooses the device and runs ``main``."""

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1:
      _stop(f"unexpected argument {argv[1]!r}; flags look like --name=value.", 2)
    if _DEVICE.value != "auto":
      import jax  # pylint: disable=import-outside-toplevel

      jax.config.update("jax_platforms", {"gpu": "cuda"}.get(_DEVICE.value, _DEVICE.value))
    try:
      main()
    except BrokenPipeError:
      sys.stderr.close()
    except (ValueError, OSError, RuntimeError) as error:
      if _TRACEBACK.value:
        raise
      _stop(" ".join(str(error).split()) or type(error).__name__, 1)
    except KeyboardInterrupt:
      _stop("interrupted.", 130)

  logging.set_verbosity(logging.WARNING)
  app.run(guarded, flags_parser=parse)


def require(**values: Any) -> None:
  """Stops with exit code 2 where a flag has no value."""
  missing = [f"--{name}" for name, value in values.items() if not value]
  if missing:
    _stop(f"{' and '.join(missing)} must be given.", 2)


def parse(argv: list[str]) -> list[str]:
  """Parses ``argv``; a bad flag is one line and exit code 2."""
  try:
    rest = flags.FLAGS(argv)
    _check_config()
    return rest
  except flags.Error as error:
    message = str(error)
    if "Traceback" in message:  # of get_config(); its last line says what is wrong
      message = f"--config: {message.strip().splitlines()[-1].partition(': ')[2]}"
    elif "flag --config." in message:
      message += f". Valid: {_typed_names(argv)}."
  except (KeyError, AttributeError, TypeError, ValueError) as error:
    message = _explain_override(argv, error)
  except OSError as error:
    message = str(error)
  _stop(message, 2)
  raise AssertionError


def _stop(message: str, code: int) -> None:
  message = " ".join(message.split())
  print(f"error: {message}", file=sys.stderr)
  sys.exit(code)


def _check_config() -> None:
  """Reads a config flag's value, which raises where the file could not be read."""
  if "config" not in flags.FLAGS or not flags.FLAGS["config"].present:
    return
  value = flags.FLAGS["config"].value
  if not dataclasses.is_dataclass(value):
    try:
      getattr(value, "data", None)
    except Exception as error:  # pylint: disable=broad-except
      cause = error.__cause__ or error
      raise flags.Error(f"--config: the file cannot be loaded: {cause}") from error
    raise flags.Error("--config: get_config() must return a dataclass.")


def _explain_override(argv: list[str], error: Exception) -> str:
  """Names the override that is no field, and the fields that there are."""
  try:
    names = [name for name, _ in leaves(_config_of(argv))]
  except Exception as cause:  # pylint: disable=broad-except
    return f"--config: the file cannot be loaded: {cause}"
  for argument in argv:
    name = argument.removeprefix("--config.").split("=")[0]
    if argument.startswith("--config.") and name not in names:
      close = difflib.get_close_matches(name, names, 1)
      hint = f" Did you mean {close[0]}?" if close else ""
      return f"config.{name} is not a setting.{hint} Valid: {', '.join(names)}."
  return str(error)


def _config_of(argv: list[str]) -> Any:
  """What the file of ``--config`` gives, without overrides."""
  path = next(a.split("=", 1)[1] for a in argv if a.startswith("--config="))
  file, *arguments = path.split(":", 1)
  return runpy.run_path(file)["get_config"](*arguments)


def _typed_names(argv: list[str]) -> str:
  """Every setting with its default."""
  try:
    settings = leaves(_config_of(argv))
  except Exception as cause:  # pylint: disable=broad-except
    return f"none, the file cannot be loaded: {cause}"
  return ", ".join(f"{name}={value}" for name, value in settings)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields ``(dotted name, value)`` of every field of nested dataclasses."""
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      yield from leaves(value, f"{prefix}{field.name}.")
    else:
      yield prefix + field.name, value
