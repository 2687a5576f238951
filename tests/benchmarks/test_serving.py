"""The load test: every record is told once, whatever connections break."""

import numpy as np
import pytest

from benchmarks import engines, serving
from tests.launch.served import made

pytest.importorskip("launch.serving.server", reason="the extra serve is not installed")


def test_a_record_without_answer_and_one_with_two_are_counted():
  tally = serving.Tally(3)
  tally.take(np.array([0, 1]), np.array([[1.0, 0.5, 0.0], [2.0, 0.4, 0.0]]))
  tally.take(np.array([1]), np.array([[2.0, 0.4, 0.0]]))
  assert tally.different == 0
  tally.take(np.array([0, 1]), np.array([[1.0, 0.5, 1.0], [2.0, 0.4, 0.0]]))
  assert tally.different == 1
  assert np.isnan(tally.told[:, 0]).tolist() == [False, False, True]


@pytest.mark.slow
def test_no_record_is_lost_or_answered_twice_where_connections_break(tmp_path):
  weights = tuple(0.1 * i for i in range(20))
  made(weights, feature_names=engines.NAMES).save(tmp_path / "detector")
  load = serving.Load(per_request=3, clients=4, resets=0.4)
  record, facts = serving.measure(load, 400, folder=tmp_path / "detector")
  assert (facts["lost"], facts["different"], facts["scored_by_service"]) == (0, 0, 400)
  assert all(facts["broken_connections"].values())
  assert facts["sent_again"] > 20
  assert facts["score_difference"] < 1e-5
  assert record.ours_seconds > 0.0
