"""num_modules=K in the ready-made configs: as good as the planner's best cuts."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config

import tests.helpers  # noqa: F401  registers everything
from infopro_seg.cli.check_model import build_weightless
from infopro_seg.planner.from_config import setting_of
from infopro_seg.planner.search.costs import Partition
from infopro_seg.planner.search.decide import smallest
from infopro_seg.planner.search.totals import predicted_peak
from infopro_seg.settings.config import read_config
from infopro_seg.settings.localize import localize
from infopro_seg.zoo.classify import missing_packages

CONFIGS = sorted((Path(__file__).parents[2] / 'configs').glob('*.py'))
# The same networks at other batches, crops, numbers of modules or without
# reconstruction are left out.
NAMES = [
    p.name
    for p in CONFIGS
    if not p.stem.startswith(('end-to-end', 'dgl'))
    and not p.stem.endswith(
        ('_b12', '_k3', '_k4', '_640x1280', '_769x769', '_camvid', '_exact', '_every4')
    )
]
MORE = {
    # Attention grows faster than the area, from 512x512 to this config's 1024x1024.
    ('infopro_segformer_mit-b2_cityscapes.py', 2): 1.11,
}


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', NAMES, ids=lambda name: Path(name).stem)
def test_the_largest_module_is_within_a_tenth_of_the_best(name, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    path = CONFIGS[0].parent / name
    model = Config.fromfile(path, import_custom_modules=False).model
    if missing_packages(model):
        pytest.skip(f'needs {missing_packages(model)}, which is not installed')
    chain = setting_of(str(path), batch_size=2).measured()
    names = [unit.name for unit in chain.units]
    # Weights, gradients and momenta are there however the network is cut.
    weights = 3 * chain.parameter_bytes
    for count in (2, 4, 8):
        cfg = copy.deepcopy(read_config(path))
        localize(cfg, {'num_modules': count})
        cfg.model.backbone.init_cfg = None
        splits = build_weightless(cfg).local['splits']
        ends = (*(names.index(split) + 1 for split in splits), len(names))
        own = predicted_peak(chain, Partition(ends)) - weights
        best = predicted_peak(chain, smallest(chain, num_modules=count)) - weights
        assert own <= MORE.get((name, count), 1.1) * best, (count, splits)
