"""The methods that the launcher can train, by the names that ``config.json`` has them under.

A method is a module here with a dataclass ``Config``, whose attribute ``method`` is that name and
which has the fields ``data`` and ``seed``, and a function ``train(config, workdir)`` that

- loads the data and settles everything that may be wrong with the settings,
- calls ``workdirs.claim(workdir, config, splits)`` (without ``splits`` where they are streamed, as
  their checksums would decode every image),
- trains in one or more stages, each by ``stages.run``,
- saves the Detector in ``workdir/detector`` and returns that folder. Its metadata has ``method``
  (for people), ``summary`` (a sentence for the report's head), ``feature_names`` where records are
  rows, and ``layers`` (names) where ``Detector.report`` tells layers apart.
"""

from collections.abc import Callable
import pathlib
from typing import Any, NamedTuple

from drocc_jax import recipe
from launch.methods import classifier, drocc, neuralfp, streamed


class Method(NamedTuple):
  """How the launcher trains.

  Attributes:
    config: class of the configuration.
    train: ``(config, workdir) -> folder`` of what was trained.
    detects: whether that is a Detector, which can be evaluated and can score.
    rebuild: ``(config, workdir, loaded Detector) -> (Program, arrays by part)`` that can
      be traced anew; needs no data.
    last: name of its last stage.
  """

  config: Any
  train: Callable[[Any, pathlib.Path], pathlib.Path]
  detects: bool = True
  rebuild: Callable[..., tuple[Any, dict[str, Any]]] = drocc.rebuild
  last: str = "training"


METHODS: dict[str, Method] = {
  **{drocc.method_of(each): Method(drocc.Config, drocc.train) for each in recipe.ALGORITHMS},
  "drocc_streamed": Method(streamed.Config, streamed.train, rebuild=streamed.rebuild),
  "neuralfp": Method(
    neuralfp.Config, neuralfp.train, rebuild=neuralfp.rebuild, last="fingerprints"
  ),
  "classifier": Method(classifier.Config, classifier.train, detects=False, last=classifier.STAGE),
}
