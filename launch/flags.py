"""Flags that all commands share, and errors in one line.

A command's module defines its flags, then ``flags.run(main)``. Anything a user can cause - an
unknown flag, a bad override, an unreadable file - ends in one sentence on standard error and exit
code 2 (flags) or 1; ``--traceback`` shows where it came from. Ctrl-C ends a command with exit code
130 and SIGTERM with 143.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import difflib
import hashlib
import os
import runpy
import signal
import sys
import threading
from typing import Any
import warnings

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from launch import help as help_text
from launch import stopping

_DEVICE = flags.DEFINE_enum(
  "device", "auto", ["auto", "cpu", "gpu", "tpu"], "Where to compute; auto takes what JAX finds."
)
_CLOSED: set[str] = set()  # standard streams that were not open when the command began
_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show the traceback of an error.")


def config_flag(name: str = "config") -> Any:
  """Defines ``--config=FILE`` with ``--config.FIELD=VALUE`` overrides."""
  try:
    return config_flags.DEFINE_config_file(
      name, None, "Configuration file; override a field with --config.FIELD=VALUE."
    )
  except flags.Error as error:  # it looks into every --flagfile
    _stop(f"--flagfile: {str(error).rpartition('] ')[2]}.", 2)
    raise AssertionError from error


def _set_value(path: str, config: Any, value: Any, **options: Any) -> None:
  """As ``config_path.set_value``; a frozen dataclass is replaced by a changed copy of it."""
  try:
    _PLAIN_SET_VALUE(path, config, value, **options)
  except dataclasses.FrozenInstanceError:
    above, _, field = path.rpartition(".")
    changed = dataclasses.replace(config_path.get_value(above, config), **{field: value})
    _set_value(above, config, changed)


_PLAIN_SET_VALUE = config_path.set_value
config_path.set_value = _set_value


def run(main: Callable[[], None]) -> None:
  """Parses the flags, chooses the device and runs ``main``."""

  def guarded(argv: list[str]) -> None:
    if len(argv) > 1:
      _stop(f"unexpected argument {argv[1]!r}; flags look like --name=value.", 2)
    if _DEVICE.value != "auto":
      import jax

      jax.config.update("jax_platforms", {"gpu": "cuda"}.get(_DEVICE.value, _DEVICE.value))
    keep_compiled()
    if not _TRACEBACK.value:  # what a thread of Orbax raises comes again where it is waited for
      threading.excepthook = lambda args: None
    signal.signal(signal.SIGTERM, lambda *_: _stop("terminated.", 143))
    try:
      main()
      sys.stdout.flush()
    except BrokenPipeError:
      sys.stderr.close()
    except stopping.Stopped as stopped:
      print(stopped, file=sys.stderr)
      sys.exit(stopped.code)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
      if _TRACEBACK.value:
        raise
      _stop(str(error).strip() or type(error).__name__, 1)
    except KeyboardInterrupt:
      _stop("interrupted.", 130)

  logging.set_verbosity(logging.WARNING)
  _reopen_closed()
  app.run(guarded, flags_parser=parse)


def keep_compiled() -> None:
  """Keeps compiled programs in the user's cache folder, where the next command finds them.

  The folder is of this processor and this jaxlib. JAX's own variables
  (``JAX_COMPILATION_CACHE_DIR``, ``JAX_ENABLE_COMPILATION_CACHE=0`` for none) have the last word,
  and a folder that cannot be written is no error.
  """
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  import jax
  import jaxlib

  home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  try:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
      features = [line for line in lines if line.lower().startswith(("flags", "features"))]
  except OSError:
    features = []
  processor = hashlib.sha256("".join(features[:1]).encode()).hexdigest()[:12]
  folder = os.path.join(home, "drocc_jax", "compiled", f"{jaxlib.__version__}-{processor}")
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError:
    return
  warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
  jax.config.update("jax_compilation_cache_dir", folder)
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _reopen_closed() -> None:
  """Opens the standard streams that the shell closed, so that no other file takes their place."""
  for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
    if getattr(sys, name) is not None:
      continue
    _CLOSED.add({"stdin": "standard input", "stdout": "standard output"}.get(name, name))
    descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
      os.dup2(descriptor, number)
      os.close(descriptor)
    setattr(sys, name, os.fdopen(number, mode, closefd=False))


def require_open(stream: str) -> None:
  """Raises a ValueError where "standard input" or "standard output" was closed by the shell."""
  if stream in _CLOSED:
    sign = "<" if stream.endswith("input") else ">"
    raise ValueError(f"The {stream} is closed; give it a file with {sign}, or a pipe.")


def require(**values: Any) -> None:
  """Stops with exit code 2 where a flag has no value."""
  missing = [f"--{name}" for name, value in values.items() if not value]
  if missing:
    _stop(f"{' and '.join(missing)} must be given.", 2)


def parse(argv: list[str]) -> list[str]:
  """Parses ``argv``; a bad flag is one line and exit code 2."""
  if any(argument in ("--help", "-help", "-h", "-?") for argument in argv[1:]):
    _help(argv)
  try:
    rest = flags.FLAGS(argv)
    _check_config()
    return rest
  except SystemExit:  # of --help and its kin, which absl ends with 1
    _leave(0)
  except BrokenPipeError:
    _leave(0)
  except flags.Error as error:
    message = str(error)
    if "Unable to open flagfile" in message:
      message = f"--flagfile: {message.rpartition('] ')[2]}."
    elif "Traceback" in message:  # of get_config(); its last line says what is wrong
      message = f"--config: {message.strip().splitlines()[-1].partition(': ')[2]}"
    elif "flag --config." in message:
      message += f". Valid: {_typed_names(argv)}."
  except OSError as error:
    message = str(error)
  except Exception as error:  # a config file may raise anything
    message = _explain_override(argv, error)
  _stop(message, 2)
  raise AssertionError


def _help(argv: list[str]) -> None:
  """Prints the flags, and the fields of the configuration with the overrides that are given."""
  config = None
  if any(argument.startswith("--config=") for argument in argv):
    rest = [argument for argument in argv if argument not in ("--help", "-help", "-h", "-?")]
    parse(rest)
    config = flags.FLAGS["config"].value
  with contextlib.suppress(BrokenPipeError):
    print(help_text.text(sys.modules["__main__"], config), end="")
  _leave(0)


def _stop(message: str, code: int) -> None:
  message = " ".join(message.split())
  print(f"error: {message}", file=sys.stderr)
  _leave(code)


def _leave(code: int) -> None:
  try:
    sys.stdout.flush()
  except OSError:  # it is full or gone, and would be flushed again at the end
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(code)


def _check_config() -> None:
  """Reads a config flag's value, which raises where the file could not be read."""
  if "config" not in flags.FLAGS or not flags.FLAGS["config"].present:
    return
  value = flags.FLAGS["config"].value
  if not dataclasses.is_dataclass(value):
    try:
      getattr(value, "data", None)
    except Exception as error:
      cause = error.__cause__ or error
      raise flags.Error(f"--config: the file cannot be loaded: {cause}") from error
    raise flags.Error("--config: get_config() must return a dataclass.")


def _explain_override(argv: list[str], error: Exception) -> str:
  """Names the override that is no field, and the fields that there are."""
  try:
    names = [name for name, _ in leaves(_config_of(argv))]
  except Exception as cause:
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
  except Exception as cause:
    return f"none, the file cannot be loaded: {cause}"
  return ", ".join(f"{name}={value}" for name, value in settings)


def leaves(config: Any) -> Iterator[tuple[str, Any]]:
  """Yields ``(dotted name, value)`` of every field of nested dataclasses."""
  return ((name, value) for name, value, _ in help_text.described(config))
