"""Files for workflows to read, and one thread to do it in."""

import pytest
from kit_workflows import put, tone
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread():
    """Test workers that each ask for every core wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def target(tmp_path):
    return put(tmp_path / "target.wav", tone(4000))


@pytest.fixture
def source(tmp_path):
    return put(tmp_path / "source.wav", tone(4000, hz=300))
