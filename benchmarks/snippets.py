"""Code blocks of Markdown pages: run, and compared with the output that the page shows."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNNER = """
import contextlib, io, json, sys
namespace, printed = {"__name__": "__main__"}, []
for number, code in enumerate(json.load(sys.stdin)):
  with contextlib.redirect_stdout(io.StringIO()) as stream:
    exec(compile(code, f"<block {number}>", "exec"), namespace)
  printed.append(stream.getvalue())
print(json.dumps(printed))
"""
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e-?\d+)?")
POINTS, SHARE = 5.0, 0.3


class Block(NamedTuple):
  """A fenced block.

  Attributes:
    language: behind the fence, e.g. "python" or "text".
    body: its lines.
    start: place of the body in the page.
    end: of the body.
  """

  language: str
  body: str
  start: int
  end: int


def blocks(text: str, *languages: str) -> list[Block]:
  """Blocks of a page, in order; of these languages, or all."""
  found = [
    Block(m["language"], m["body"], m.start("body"), m.end("body")) for m in FENCE.finditer(text)
  ]
  return [block for block in found if not languages or block.language in languages]


def outputs(text: str) -> list[tuple[Block, Block]]:
  """Blocks of Python and the text that directly follows each, which is what it prints."""
  return [
    (code, shown)
    for code, shown in itertools.pairwise(blocks(text))
    if code.language == "python" and re.fullmatch(r"```\s*```text\n", text[code.end : shown.start])
  ]


def run(codes: list[str]) -> list[str]:
  """What blocks of one page print, run one after the other in a process and a folder of their own.

  Raises:
    RuntimeError: a block failed; the message ends with its error.
  """
  with tempfile.TemporaryDirectory() as folder:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
      [sys.executable, "-W", "ignore", "-c", RUNNER],
      cwd=folder,
      env=environment,
      input=json.dumps(codes),
      capture_output=True,
      text=True,
      check=False,
    )
  if done.returncode:
    raise RuntimeError(done.stderr[-2000:])
  return list(json.loads(done.stdout))


def printed_by(text: str) -> list[tuple[Block, str]]:
  """Runs all Python of a page; returns each output that it shows, and the one of now."""
  codes = blocks(text, "python")
  printed = dict(zip(codes, run([code.body for code in codes]), strict=True))
  return [(shown, printed[code]) for code, shown in outputs(text)]


def with_outputs(text: str) -> str:
  """The page with what its code prints now."""
  for shown, printed in reversed(printed_by(text)):
    text = text[: shown.start] + printed + text[shown.end :]
  return text


def differs(shown: str, printed: str) -> str:
  """Says how an output differs from the one that a page shows, "" where it does not.

  Words must be the same. Numbers come from trainings, which round differently on another
  processor: a percentage may be 5 points off, another number 30 % (and a last digit).
  """
  words = [NUMBER.sub("#", text).split() for text in (shown, printed)]
  if words[0] != words[1]:
    return f"expected\n{shown}\ngot\n{printed}"
  for a, b in zip(NUMBER.finditer(shown), NUMBER.finditer(printed), strict=True):
    x, y = (float(m[0].replace(",", "")) for m in (a, b))
    percent = shown[a.end() :].lstrip().startswith("%")
    decimals = len(a[0].partition(".")[2].partition("e")[0])
    allowed = POINTS if percent else SHARE * abs(x) + (10.0**-decimals if decimals else 0.0)
    if abs(x - y) > allowed:
      return f"{a[0]} is {b[0]} now, more than {allowed:.3g} off, in\n{printed}"
  return ""
