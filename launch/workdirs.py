"""The folder of a run (workdir), and the configuration that claims it.

config.json     the configuration and its method, checked when the run is taken up again
data.json       counts and checksums of its records, checked likewise
checkpoints/    Orbax, by stage and epoch
metrics.jsonl   scalars by stage and epoch; tensorboard/ has the same
members/        models of a sweep, see launch.sweeping
detector/       the finished Detector, see detector_jax.artifact
failure.json    where training diverged, see launch.failures
.lock           held by the process that trains, and let go by the system when it ends
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import types
import typing
from typing import Any

import jax

from detector_jax import atomic
from drocc_jax.drocc import Config as DroccConfig
from drocc_jax.recipe import ALGORITHMS
from launch import devices, flags, locking
from launch.data import Source, Splits, from_settings, manifest

logger = logging.getLogger(__name__)

_HELD: dict[pathlib.Path, int | None] = {}  # open lock files, None until the folder is made


@contextlib.contextmanager
def held(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps other processes from training in a workdir; of several processes of one run, the first.

  The lock is taken at once where the folder exists, else when ``claim`` makes it. It is the
  system's, on the open file ``.lock``: however the process ends, it is gone.

  Raises:
    ValueError: another training holds it; the message names its process.
    OSError: the folder cannot be written.
  """
  key = workdir.resolve()
  if key in _HELD:
    raise ValueError(f"{workdir} is being trained in by this process: choose another --workdir.")
  _HELD[key] = None
  try:
    if workdir.is_dir():
      _lock(workdir)
    yield
  finally:
    if (descriptor := _HELD.pop(key)) is not None:
      os.close(descriptor)


def _lock(workdir: pathlib.Path) -> None:
  key = workdir.resolve()
  if _HELD.get(key, -1) is not None or jax.process_index():
    return
  try:
    _HELD[key] = locking.take(workdir / ".lock", workdir)
  except locking.HeldError as error:
    raise ValueError(
      f"{workdir} is being trained in by process {error.holder}: wait for it, or choose another "
      "--workdir."
    ) from None
  except OSError as error:
    raise OSError(f"The workdir {workdir} cannot be written: {error.strerror}.") from error


def check(workdir: pathlib.Path, config: Any) -> None:
  """Checks that the workdir is new or of this configuration.

  Raises:
    ValueError: it holds a run of another method or configuration; the message names the first
      differences.
  """
  if not (workdir / "config.json").exists():
    return
  method, stored = read(workdir)
  before, now = {"method": method}, {"method": config.method}
  if method == config.method:
    before, now = (_leaves(each) for each in (from_dict(workdir, type(config), stored), config))
  changes = [
    f"{name} was {before.get(name, 'unset')}, is {now.get(name, 'unset')}"
    for name in {**now, **before}
    if before.get(name, "unset") != now.get(name, "unset")
  ]
  if changes:
    raise ValueError(
      f"{workdir} holds a run of another configuration ({'; '.join(changes[:3])}): choose another "
      "--workdir, or give the same settings to resume it."
    )


def claim(workdir: pathlib.Path, config: Any, splits: Splits | None = None) -> None:
  """Makes the workdir and writes ``config.json``, once the settings are known to be good.

  Args:
    workdir: the folder.
    config: a dataclass with the attribute ``method``, its name in ``launch.methods``.
    splits: the records of the run; their manifest becomes ``data.json``.

  Raises:
    ValueError: the run was begun with other records.
    OSError: it cannot be written.
  """
  values = {"method": config.method, **dataclasses.asdict(config)}
  records = None if splits is None else manifest.from_splits(splits)
  devices.check_alike("Settings and records", [values, records])
  if not devices.primary():
    return
  if records is not None:
    _check_records(workdir, records)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    _lock(workdir)
    atomic.remove_leftovers(workdir / "detector")
    _write(workdir / "config.json", values)
    if records is not None:
      _write(workdir / "data.json", records)
  except OSError as error:
    if not error.strerror:  # it is said already
      raise
    raise OSError(f"The workdir {workdir} cannot be written: {error.strerror}.") from error


def check_there(workdir: pathlib.Path) -> None:
  """Raises an OSError where a workdir that was claimed has been removed since."""
  if devices.primary() and not (workdir / "config.json").is_file():
    raise OSError(
      f"The workdir {workdir} was removed while it was trained in: rerun the same command to train "
      "anew."
    )


def _write(path: pathlib.Path, values: dict[str, Any]) -> None:
  atomic.write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def _check_records(workdir: pathlib.Path, records: dict[str, Any]) -> None:
  path = workdir / "data.json"
  if not path.is_file():
    return
  try:
    changed = manifest.difference(json.loads(path.read_text()), records)
  except (ValueError, AttributeError, RecursionError) as error:
    raise ValueError(
      f"{path} is no manifest of records: {error}; remove it to go on without that check."
    ) from error
  if changed:
    raise ValueError(
      f"The data have changed since {workdir} was begun: {changed} differ. Restore them, or choose "
      "another --workdir."
    )


def read(workdir: pathlib.Path) -> tuple[str, dict[str, Any]]:
  """The method of a run and its settings as ``config.json`` has them.

  A file that names no method is of DROCC, which was the only one then.

  Raises:
    ValueError: there is none, or it cannot be read.
  """
  path = workdir / "config.json"
  if not path.is_file():
    raise ValueError(
      f"{workdir} holds no run: train first, python -m launch.train --workdir={workdir}."
    )
  try:
    values = dict(json.loads(path.read_text()))
  except (ValueError, TypeError, RecursionError) as error:
    raise ValueError(f"{path} is not the configuration of a run: {error}.") from error
  method = values.pop("method", "drocc")
  if not isinstance(method, str):
    raise ValueError(f"{path} is not the configuration of a run: its method is {method!r}.")
  return method, values


def from_dict(workdir: pathlib.Path, cls: Any, values: dict[str, Any]) -> Any:
  """The configuration that ``values`` of a workdir's ``config.json`` stand for.

  Raises:
    ValueError: they are not of a ``cls``.
  """
  try:
    return _from_dict(cls, values)
  except (ValueError, TypeError) as error:
    message = f"{workdir / 'config.json'} is not the configuration of a run: {error}."
    raise ValueError(message) from error


def _from_dict(cls: Any, values: dict[str, Any]) -> Any:
  """A dataclass from what ``asdict`` and JSON made of it."""
  if not isinstance(values, dict):
    raise ValueError(f"{values!r} is no {cls.__name__}")
  if cls is Source:
    cls, values = from_settings(values)
  if cls is DroccConfig:  # the first algorithm that has all these settings
    cls = next((each.config for each in ALGORITHMS if _names(each.config) >= values.keys()), cls)
  values = {**getattr(cls, "former", {}), **values}  # what settings were before they could be set
  gone = getattr(cls, "gone", ())  # settings that earlier releases had
  values = {name: value for name, value in values.items() if name not in gone}
  hints = typing.get_type_hints(cls)
  known = _names(cls)
  if not known >= values.keys():
    raise ValueError(f"{cls.__name__} has no setting {min(values.keys() - known)!r}")
  return cls(**{name: _value(hints[name], value) for name, value in values.items()})


def _names(cls: Any) -> set[str]:
  """Names of the fields of a dataclass."""
  return {field.name for field in dataclasses.fields(cls)}


def _value(kind: Any, value: Any) -> Any:
  """``value`` as the type ``kind``: dataclasses from dicts and tuples from lists, at any depth."""
  if typing.get_origin(kind) in (typing.Union, types.UnionType):
    kinds = [each for each in typing.get_args(kind) if each is not types.NoneType]
    suits = (each for each in kinds if isinstance(value, dict) == dataclasses.is_dataclass(each))
    return value if value is None else _value(next(suits, None), value)
  if dataclasses.is_dataclass(kind):
    return _from_dict(kind, value)
  if kind is tuple or typing.get_origin(kind) is tuple:
    inner = typing.get_args(kind)
    if inner and inner[-1] is ...:
      inner = inner[:1] * len(value)
    return tuple(map(_value, inner, value)) if inner else tuple(value)
  return value


def _leaves(config: Any) -> dict[str, Any]:
  """Every setting by its dotted name, as JSON has it."""
  return json.loads(json.dumps(dict(flags.leaves(config)), default=dataclasses.asdict))
