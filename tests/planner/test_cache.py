import importlib
import sys
import types

import pytest

from infopro_seg.planner.cache import cache_folder, cached, chain_from_json, digest
from infopro_seg.planner.search.costs import (
    AuxiliaryCost,
    Chain,
    HeadCost,
    Output,
    Pass,
    UnitCost,
    Variants,
)
from infopro_seg.settings.recompute_mode import RecomputeMode
from tests.samples import some_of

STEP = Pass(1, 2, -3, 4, 5, 6, 7, 8)
THREE = (STEP, STEP, STEP)
CHAIN = Chain(
    units=(UnitCost('stem', Variants(THREE, THREE), 9, 10, False),),
    heads=(HeadCost(STEP, 11),),
    tail=Variants((STEP, None, STEP), (STEP, None, STEP), ((STEP, None, STEP),)),
    tail_reads=(0,),
    auxiliaries=(AuxiliaryCost(STEP, (0,)),),
    outputs=(Output(0, 12, True),),
    start_bytes=13,
    parameter_bytes=14,
    assumed=('index',),
)
KEY = {'model': {'type': 'EncoderDecoder'}, 'batch_size': 2}


class Measure:
    """Counts how often it is asked."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return CHAIN


def test_a_chain_is_measured_once(cache_home):
    measure = Measure()
    assert cached(KEY, measure) == CHAIN
    assert cached(KEY, measure) == CHAIN
    assert measure.calls == 1
    assert cache_folder().parent.parent == cache_home
    assert [path.suffix for path in cache_folder().iterdir()] == ['.json']


def test_another_key_is_measured_again():
    measure = Measure()
    cached(KEY, measure)
    cached({**KEY, 'batch_size': 4}, measure)
    assert measure.calls == 2


def test_it_can_be_switched_off(monkeypatch, cache_home):
    monkeypatch.setenv('INFOPRO_SEG_CACHE', 'off')
    measure = Measure()
    cached(KEY, measure)
    cached(KEY, measure)
    assert measure.calls == 2
    assert not cache_home.exists()


def test_a_broken_file_is_measured_again_with_a_warning():
    measure = Measure()
    cached(KEY, measure)
    (path,) = cache_folder().iterdir()
    path.write_text('{"units": []}')
    with pytest.warns(UserWarning, match='cannot be read'):
        assert cached(KEY, measure) == CHAIN
    assert cached(KEY, measure) == CHAIN
    assert measure.calls == 2


def test_a_folder_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.warns(UserWarning, match='set XDG_CACHE_HOME, or INFOPRO_'):
        assert cached(KEY, Measure()) == CHAIN


def test_the_name_depends_on_the_code(monkeypatch):
    before = digest(KEY)
    assert digest(KEY) == before
    monkeypatch.setattr('torch.__version__', '0.0')
    assert digest(KEY) != before


def test_json_keeps_kinds():
    import dataclasses
    import json

    chain = chain_from_json(json.dumps(dataclasses.asdict(CHAIN)))
    assert chain == CHAIN
    assert isinstance(chain.units[0].passes.plain, Pass)
    assert chain.tail.modes() == [RecomputeMode.NOTHING, RecomputeMode.STEPWISE]


@pytest.mark.parametrize(
    'edited', some_of(['my_head.py', 'my_parts/width.py'], 'my_parts/width.py')
)
def test_an_edit_to_code_of_the_users_is_measured_again(tmp_path, monkeypatch, edited):
    # A head, and what it imports from a package beside it.
    (tmp_path / 'my_parts').mkdir()
    (tmp_path / 'my_parts' / 'width.py').write_text('WIDTH = 8\n')
    (tmp_path / 'my_head.py').write_text('from my_parts.width import WIDTH\n')
    monkeypatch.syspath_prepend(tmp_path)
    before = digest(KEY)
    importlib.import_module('my_head')
    imported = digest(KEY)
    assert imported != before
    assert digest(KEY) == imported
    (tmp_path / edited).write_text('WIDTH = 800\n')
    assert digest(KEY) != imported
    for name in ('my_head', 'my_parts', 'my_parts.width'):
        del sys.modules[name]
    assert digest(KEY) == before


def test_nothing_is_kept_of_code_that_has_no_file(monkeypatch):
    monkeypatch.setattr(sys, 'ps1', '>>> ', raising=False)
    monkeypatch.setitem(sys.modules, '__main__', types.ModuleType('__main__'))
    measure = Measure()
    cached(KEY, measure)
    cached(KEY, measure)
    assert measure.calls == 2
