"""Neighbours keep the training records, a detector does not; each is timed on the same records."""

from benchmarks import speed_neighbours


def test_neighbours_grow_with_the_records_and_a_detector_does_not():
  small, few = speed_neighbours.compare(200, 2, scored=50, epochs=1, calibration_size=0)
  large, many = speed_neighbours.compare(2000, 2, scored=50, epochs=1, calibration_size=0)
  assert many["neighbours"] - few["neighbours"] >= 1800 * speed_neighbours.FEATURES * 4
  assert abs(many["ours"] - few["ours"]) < 2000, "no training record is kept"
  assert small.case == "score 50 records, trained on 200"
  assert min(small.ours_seconds, small.peer_seconds, large.ours_seconds) > 0
