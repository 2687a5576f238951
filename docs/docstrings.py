"""Docstrings of the libraries as Markdown: formulas of reStructuredText become blocks and code."""

import re

import griffe

BLOCK = re.compile(
  r"^(?P<indent> *)\.\. math::(?P<line>.*)\n?(?P<rest>(?:(?:(?P=indent)  .*)?\n)*)", re.MULTILINE
)


def as_markdown(text: str) -> str:
  """A docstring without its directives and roles.

  ``.. math::`` becomes a block of text, ``:math:`` code; and where ``::`` introduces what is
  indented, one colon is enough.
  """

  def block(match: re.Match[str]) -> str:
    indent = match["indent"]
    lines = [match["line"].strip(), *(line.strip() for line in match["rest"].splitlines())]
    formula = "\n".join(indent + line for line in lines if line)
    return f"{indent}```tex\n{formula}\n{indent}```\n\n"

  text = BLOCK.sub(block, text + "\n")
  text = re.sub(r":math:`([^`]*)`", r"`\1`", text)
  return re.sub(r"::(?=\n\n +\S)", ":", text).rstrip()


class Formulas(griffe.Extension):
  """Rewrites every docstring as it is collected."""

  def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
    """Called by griffe for each module, class, function and attribute."""
    del kwargs
    if obj.docstring is not None:
      obj.docstring.value = as_markdown(obj.docstring.value)
