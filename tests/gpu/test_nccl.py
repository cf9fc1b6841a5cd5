"""Several processes with NCCL, as tools/dist_train.sh starts them."""

import re

import pytest
import torch

from tests.distributed.test_dist_train import CONFIG, dist_train


@pytest.mark.cuda_only
@pytest.mark.dist
@pytest.mark.parametrize('num_gpus', [1, 2])
def test_processes_train_validate_and_resume(tmp_path, num_gpus):
    if torch.cuda.device_count() < num_gpus:
        pytest.skip(f'needs {num_gpus} GPUs')
    (tmp_path / 'tiny.py').write_text(CONFIG)
    said = dist_train(tmp_path, num_processes=num_gpus, on_gpu=True)
    assert re.search(r'Iter\(val\) .*mIoU', said)
    more = ('--resume', '--cfg-options', 'train_cfg.max_iters=3')
    said = dist_train(tmp_path, *more, num_processes=num_gpus, on_gpu=True)
    assert 'Iter(train) [3/3]' in said
    assert 'Iter(train) [2/3]' not in said
