"""Classification losses on one logit."""

import jax


def logistic(logit: jax.Array, label: jax.Array | float) -> jax.Array:
  r"""Logistic loss of a logit with a label in {-1, +1}.

  .. math:: l(z, y) = \log(1 + e^{-y z})

  Args:
    logit: ``z``, any shape; positive means typical.
    label: ``y``, +1 for typical and -1 for anomalous, broadcast against ``logit``.

  Returns:
    The loss, shaped like the broadcast arguments, in [0, inf).

  Examples:
    >>> float(logistic(0.0, 1.0)) == float(jax.numpy.log(2.0))
    True
    >>> bool(logistic(4.0, -1.0) > logistic(4.0, +1.0))  # sure of typical, and anomalous
    True

  References:
    DROCC (Goyal et al., 2020), section 3: ``l`` is the standard cross-entropy.
  """
  return jax.nn.softplus(-label * logit)
