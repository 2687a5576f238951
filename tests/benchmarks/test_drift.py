"""The drift benchmark counts what it says, and turns images as it says."""

import numpy as np

from benchmarks import drift


def made(alarm, false_alarms=0):
  return drift.Run(np.zeros(400), np.zeros(400), 0.0, alarm, false_alarms)


def test_delays_are_counted_from_the_first_turned_record():
  assert made(drift.QUIET).delay == 1
  assert made(drift.QUIET + 59).delay == 60
  assert made(drift.QUIET - 1).delay is None
  assert made(None).delay is None


def test_alarms_before_and_after_and_where_nothing_changes():
  runs = [made(drift.QUIET + 39, 1), made(drift.QUIET + 59), made(10), made(None, 2)]
  table, facts = drift.summary(runs)
  assert [(record.row, record.metric, record.mean) for record in table] == [
    ("nothing changes", "false alarms", 1.5),
    ("digits start to turn", "alarms before", 25.0),
    ("digits start to turn", "alarms after", 50.0),
  ]
  assert facts["unchanged_streams"] == {"streams": 4 * drift.ORDERS, "with_alarm": 3}
  assert facts["delay_in_records"] == [40, 60]
  assert facts["delay"]["median"] == {"records": 50.0, "degrees": 12.5}
  assert "delay" not in drift.summary([made(None)])[1]


def test_every_image_is_turned_by_its_own_angle(rng):
  images = rng.uniform(size=(3, 8, 8))
  x = drift.turned(images, np.array([0.0, 90.0, 180.0])).reshape(3, 8, 8)
  np.testing.assert_allclose(x[0], images[0], atol=1e-9)
  np.testing.assert_allclose(x[1], np.rot90(images[1]), atol=1e-9)
  np.testing.assert_allclose(x[2], np.rot90(images[2], 2), atol=1e-9)
