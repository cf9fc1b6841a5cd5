"""Measured costs are kept in a folder of the test, not in the user's cache."""

import pytest


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('INFOPRO_SEG_CACHE', raising=False)
    return tmp_path / 'cache'
