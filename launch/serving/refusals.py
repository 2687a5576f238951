"""Why a request gets no scores."""


class RefusedError(Exception):
  """A request is refused.

  Args:
    status: of HTTP, 4xx or 503.
    sentence: for whoever sent it.

  Attributes:
    status: as given.
    sentence: as given.
  """

  def __init__(self, status: int, sentence: str):
    super().__init__(sentence)
    self.status, self.sentence = status, sentence
