"""What the launcher does the same way for every method: dispatch, and configurations read back."""

import pathlib
import tempfile
from typing import Any

from launch import costs, stages, workdirs
from launch.methods import METHODS, Method


def train(config: Any, workdir: pathlib.Path) -> pathlib.Path:
  """Trains, or goes on where an interrupted run stopped.

  An interrupted run ends with the same bits as an uninterrupted one: everything random is a
  function of the seed, the epoch and the step.

  Args:
    config: the configuration of one of ``launch.methods``.
    workdir: the run's folder, see ``workdirs``.

  Returns:
    The folder of what was trained, ``workdir/detector`` for a Detector.

  Raises:
    ValueError: data or a setting that cannot be used, a workdir of another configuration, or one
      in which another process trains.
    HealthError: training diverged, or its scores are constant or upside down.
    OSError: the workdir cannot be written.
    Stopped: by a signal, see ``stages.run``.
  """
  method = method_of(config)
  with workdirs.held(workdir):
    workdirs.check(workdir, config)
    if (workdir / "members" / "config.json").exists():
      raise ValueError(f"{workdir} holds a sweep: choose another --workdir.")
    folder = method.train(config, workdir)
    workdirs.check_there(workdir)
    return folder


def dry_run(config: Any) -> list[costs.Estimate]:
  """What a training would cost, stage by stage; reads the data and leaves nothing behind.

  Raises:
    ValueError: as ``train``.
  """
  method = method_of(config)
  with tempfile.TemporaryDirectory() as folder, stages.trial(method.last) as found:
    method.train(config, pathlib.Path(folder))
  return found


def method_of(config: Any) -> Method:
  """The method whose configuration this is.

  Raises:
    ValueError: it is of none.
  """
  method = METHODS.get(getattr(config, "method", ""))
  if method is not None and type(config) is method.config:
    return method
  kind = f"{type(config).__module__}.{type(config).__name__}"
  raise ValueError(
    f"A {kind} configures no method: get_config() must return the Config of one of the modules "
    f"launch.methods.{{{','.join(METHODS)}}}."
  )


def read_config(workdir: pathlib.Path) -> Any:
  """The configuration of a run.

  Raises:
    ValueError: there is none, it cannot be read, or its method is unknown.
  """
  name, values = workdirs.read(workdir)
  if name not in METHODS:
    raise ValueError(
      f"{workdir} holds a run of the method {name!r}; this release has {', '.join(METHODS)}."
    )
  config = workdirs.from_dict(workdir, METHODS[name].config, values)
  if config.method != name:
    raise ValueError(
      f"{workdir / 'config.json'} is not the configuration of a run: its settings are of the "
      f"method {config.method!r}, and it names {name!r}."
    )
  return config
