"""One-class classification with limited negatives: close negatives that training never sees."""

from collections.abc import Sequence

import numpy as np

from launch.data.splits import Labelled, Splits, image_shape, unit

TYPICAL, NEGATIVE, MASKED = "typical", "negative", "masked"


def mask_pixels(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
  """Images with that share of their pixels, drawn at random for each, set to 0.

  Args:
    x: float ``[n, h, w, c]``; all channels of a pixel go together.
    share: in (0, 1); ``round(share h w)`` pixels of each image are set.
    rng: draws them.

  Returns:
    Shaped like ``x``.
  """
  count, pixels = len(x), x.shape[1] * x.shape[2]
  order = np.argsort(rng.random((count, pixels)), axis=1)
  kept = np.ones((count, pixels), bool)
  np.put_along_axis(kept, order[:, : round(share * pixels)], False, axis=1)
  return np.where(kept.reshape(count, *x.shape[1:3], 1), x, np.zeros((), x.dtype))


def masked_classes(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  typical: int,
  negatives: Sequence[int],
  masked: float,
  seed: int,
  validation: float = 0.2,
) -> Splits:
  """One class against others of which negatives are given, and against itself half masked.

  The experiment of section 5.2.2: digit 0 is typical, digit 1 the given negative; masked zeros are
  the close negatives, which are never trained on. Masked images are made of images that are
  nowhere else in use: of the typical test images one half tests as it is, and the other half
  masked; likewise the validation records.

  Args:
    train: images ``[n, h, w, c]``, bytes or floating point in [0, 1], and their classes ``[n]``.
    test: likewise, of the test part.
    typical: the typical class.
    negatives: the classes of the given negatives.
    masked: share of masked pixels in (0, 1); the paper says 0.5, the released code has 0.4.
    seed: of validation records and masks, >= 0.
    validation: share of the training images that validate, in (0, 1).

  Returns:
    Splits of float32 images, with ``negatives``, ``validation`` and sources "typical", "negative"
    and "masked".

  Raises:
    ValueError: an argument is out of its range, or a class has too few images.

  References:
    DROCC (Goyal et al., 2020), section 5.2.2, Figure 2.
  """
  if not 0.0 < masked < 1.0:
    raise ValueError(f"masked must be in (0, 1), got {masked!r}.")
  if typical in negatives:
    raise ValueError(f"Class {typical} cannot be typical and negative at once.")
  for wanted in (typical, *negatives):
    if min(np.sum(train[1] == wanted), np.sum(test[1] == wanted)) < 4:
      raise ValueError(
        f"Class {wanted} has fewer than 4 images; classes are: "
        f"{', '.join(map(str, np.unique(train[1])[:20]))}."
      )
  rng = np.random.default_rng(seed)

  def take(part: tuple[np.ndarray, np.ndarray], classes: Sequence[int]) -> np.ndarray:
    return unit(part[0][np.isin(part[1], classes)])

  def divide(x: np.ndarray, share: float, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(len(x))
    count = min(max(least, round(share * len(x))), len(x) - least)
    return x[np.sort(order[count:])], x[np.sort(order[:count])]

  def measured(positive: np.ndarray, negative: np.ndarray) -> Labelled:
    plain, other = divide(positive, 0.5, least=1)
    parts = {TYPICAL: plain, NEGATIVE: negative, MASKED: mask_pixels(other, masked, rng)}
    counts = [len(x) for x in parts.values()]
    return Labelled(
      np.concatenate(list(parts.values())),
      np.repeat(np.array([0, 1, 1], np.int64), counts),
      np.repeat(np.array(list(parts)), counts),
    )

  x_train, held_out = divide(take(train, [typical]), validation)
  given, held_out_given = divide(take(train, negatives), validation)
  tested = measured(take(test, [typical]), take(test, negatives))
  return Splits(
    x_train,
    tested.x,
    tested.y,
    image_shape=image_shape(x_train),
    description=(
      f"class {typical} against {len(given):,} given negatives of class "
      f"{', '.join(map(str, negatives))} and against itself with {masked:.0%} of the pixels "
      f"masked, seed {seed}"
    ),
    sources=tested.sources,
    negatives=given,
    validation=measured(held_out, held_out_given),
  )
