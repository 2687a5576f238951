"""What is told of a long series, by hand."""

import numpy as np
import pytest

from benchmarks import windows


def test_alarms_shares_and_delay_by_hand():
  # Windows of 4 steps, every 2, from steps 0 to 18; step 9 is odd, in the windows from 6 and 8.
  odd = np.isin(np.arange(10), [3, 4])
  flagged = np.isin(np.arange(10), [0, 1, 4, 7])
  found = windows.told(odd, flagged, 9, 4, 2)
  assert found == {"false alarms": 2.0, "found": 0.5, "delay": 2.0}
  missed = windows.told(odd, np.arange(10) == 0, 9, 4, 2)
  assert missed == {"false alarms": 1.0, "found": 0.0}


@pytest.mark.parametrize("row", windows.SETTINGS)
def test_the_set_is_named_where_it_is_not_there(row, monkeypatch):
  monkeypatch.delenv("OOD_DATA_DIR", raising=False)
  with pytest.raises(ValueError, match=r"no series/InternalBleeding16\.npz; set OOD_DATA_DIR"):
    windows.measured(row, 0)
