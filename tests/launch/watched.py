"""What tests of watching share: lines, and what is told of them."""

import json

from launch import watching


def told(watcher, lines, on_bad_row="fail"):
  written = []
  tally = watching.watch(watcher, lines, written.append, on_bad_row)
  return [json.loads(line) for line in written], tally


def lines_of(records):
  return [json.dumps(record) + "\n" for record in records.tolist()]
