"""Docstrings of the libraries as Markdown: formulas of reStructuredText become blocks and code."""

import re
import textwrap

import griffe

BLOCK = re.compile(
  r"^(?P<indent> *)\.\. math::(?P<line>.*)\n?(?P<rest>(?:(?:(?P=indent)  .*)?\n)*)", re.MULTILINE
)


LITERAL = re.compile(r"::\n\n(?P<body>(?: +.*\n|\n)+)")


def as_markdown(text: str) -> str:
  """A docstring without its directives and roles.

  ``.. math::`` and what ``::`` introduces become blocks, ``:math:`` becomes code.
  """

  def formula(match: re.Match[str]) -> str:
    indent = match["indent"]
    lines = [match["line"].strip(), *(line.strip() for line in match["rest"].splitlines())]
    body = "\n".join(indent + line for line in lines if line)
    return f"{indent}```tex\n{body}\n{indent}```\n\n"

  def literal(match: re.Match[str]) -> str:
    return f":\n\n```text\n{textwrap.dedent(match['body']).strip()}\n```\n\n"

  text = BLOCK.sub(formula, text + "\n")
  return LITERAL.sub(literal, re.sub(r":math:`([^`]*)`", r"`\1`", text)).rstrip()


class Formulas(griffe.Extension):
  """Rewrites every docstring as it is collected."""

  def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
    """Called by griffe for each module, class, function and attribute."""
    del kwargs
    if obj.docstring is not None:
      obj.docstring.value = as_markdown(obj.docstring.value)
