"The time limit of a test run."

import pytest
import time
from conftest import OVER, pytest_runtest_setup


@pytest.mark.parametrize("later", [None, 60])
def test_there_is_time(monkeypatch, later):
    monkeypatch.delenv("VIDPRISM_END", raising=False)
    if later:
        monkeypatch.setenv("VIDPRISM_END", str(int(time.time()) + later))
    pytest_runtest_setup()


def test_the_time_is_over(monkeypatch):
    monkeypatch.setenv("VIDPRISM_END", str(int(time.time()) - 1))
    with pytest.raises(pytest.skip.Exception, match=OVER):
        pytest_runtest_setup()
