"""The error of a missing extra."""

import sys

import pytest

from smalti.errors import MissingExtraError, has_extra, require_extra


@pytest.mark.parametrize(
    ("extra", "package"), [("plots", "matplotlib"), ("pitch", "swift_f0"), ("corpus", "faiss"), ("midi", "mido")]
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(extra, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert not has_extra(extra)
    with pytest.raises(MissingExtraError) as raised:
        require_extra(extra, "this needs more")
    assert str(raised.value) == f"this needs more: pip install 'smalti[{extra}]'"


def test_an_extra_that_is_installed_is_not_missed():
    assert has_extra("plots")
    require_extra("plots", "pictures need matplotlib")
