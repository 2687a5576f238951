"""The load test: every record is told once, whatever connections break."""

import numpy as np
import pytest

from benchmarks import engines, serving, serving_load
from tests.launch.served import made

pytest.importorskip("launch.serving.server", reason="the extra serve is not installed")


def test_a_record_without_answer_and_one_with_two_are_counted():
  tally = serving_load.Tally(3)
  tally.take(np.array([0, 1]), np.array([[1.0, 0.5, 0.0], [2.0, 0.4, 0.0]]))
  tally.take(np.array([1]), np.array([[2.0, 0.4, 0.0]]))
  assert tally.different == 0
  tally.take(np.array([0, 1]), np.array([[1.0, 0.5, 1.0], [2.0, 0.4, 0.0]]))
  assert tally.different == 1
  assert np.isnan(tally.told[:, 0]).tolist() == [False, False, True]


@pytest.mark.parametrize("fault", [{"lost": 1}, {"different": 1}, {"scored_by_service": 8}])
def test_a_record_that_is_lost_or_told_twice_ends_the_command(fault):
  facts = {"records_sent": 7, "lost": 0, "different": 0, "scored_by_service": 7}
  serving.check(facts)
  with pytest.raises(RuntimeError, match=r"^Of 7 records .* Each must be scored and answered once"):
    serving.check({**facts, **fault})


@pytest.mark.slow
def test_no_record_is_lost_or_answered_twice_where_connections_break(tmp_path):
  weights = tuple(0.1 * i for i in range(20))
  made(weights, feature_names=engines.NAMES).save(tmp_path / "detector")
  load = serving_load.Load(per_request=3, clients=4, resets=0.4)
  record, facts = serving.measure(load, 400, folder=tmp_path / "detector")
  assert (facts["lost"], facts["different"], facts["scored_by_service"]) == (0, 0, 400)
  assert all(facts["broken_connections"].values())
  assert facts["sent_again"] > 20
  assert facts["score_difference"] < 1e-5
  assert record.ours_seconds > 0.0
  assert all(facts["cpu_ms_of_a_request"].values())
  assert list(facts["service_ms_beside_http"]) == ["read", "score", "watch", "write"]
