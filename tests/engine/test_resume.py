"""Contract: interrupted and resumed equals uninterrupted, bit for bit."""

import pytest
import torch
from mmengine.logging import MMLogger

from infopro_seg.checkpoint import read_checkpoint
from tests.engine.runs import (
    CpuAmpOptimWrapper,
    Killed,
    KillHook,
    assert_same_checkpoint,
    loader,
    resume,
    runner_of,
)

VALIDATION = {
    'val_dataloader': loader(sampler='DefaultSampler'),
    'val_cfg': {'type': 'ValLoop'},
    'val_evaluator': {'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
}


def interrupt(work_dir, after, **settings):
    hooks = [KillHook(after)]
    with pytest.raises(Killed):
        runner_of(work_dir, hooks=hooks, **settings).train()


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'optim_wrapper': {'accumulative_counts': 2}},
        {'optim_wrapper': {'type': CpuAmpOptimWrapper}},
        VALIDATION,
        {'train_dataloader': loader(sampler='InfiniteSampler')},
        pytest.param({'train_dataloader': loader(2)}, marks=pytest.mark.slow),
    ],
    ids=['plain', 'accumulation', 'scaler', 'validation', 'stock sampler', 'workers'],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, settings):
    runner_of(tmp_path / 'whole', **settings).train()
    interrupt(tmp_path / 'killed', after=5, **settings)
    assert not (tmp_path / 'killed' / 'iter_6.pth').exists()
    assert resume(tmp_path / 'killed', **settings).train_loop.iter == 6
    ends = [tmp_path / run / 'iter_6.pth' for run in ('whole', 'killed')]
    assert_same_checkpoint(*ends)
    middle = read_checkpoint(tmp_path / 'whole' / 'iter_4.pth')
    end = read_checkpoint(ends[0])
    assert not torch.equal(
        middle['random_states'][0]['torch'], end['random_states'][0]['torch']
    )
    assert {'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'} <= set(end)


@pytest.mark.slow
def test_workers_draw_the_same_augmentations_as_the_main_process(tmp_path):
    for name, workers in (('none', 0), ('one', 1)):
        runner_of(
            tmp_path / name, iterations=2, train_dataloader=loader(workers)
        ).train()
    assert torch.equal(
        *(
            read_checkpoint(tmp_path / name / 'iter_2.pth')['state_dict'][
                'decode_head.conv_seg.weight'
            ]
            for name in ('none', 'one')
        )
    )


@pytest.mark.slow
def test_a_checkpoint_in_the_middle_of_accumulation_waits_for_the_step(tmp_path):
    settings = {'interval': 1, 'optim_wrapper': {'accumulative_counts': 2}}
    runner_of(tmp_path / 'whole', iterations=6, **settings).train()
    saved = sorted(path.name for path in (tmp_path / 'whole').glob('*.pth'))
    assert saved == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']
    interrupt(tmp_path / 'killed', after=4, **settings)
    resume(tmp_path / 'killed', **settings)
    assert_same_checkpoint(
        tmp_path / 'whole' / 'iter_6.pth', tmp_path / 'killed' / 'iter_6.pth'
    )


def test_another_number_of_processes_is_said_and_goes_on(tmp_path, monkeypatch):
    interrupt(tmp_path, after=3, interval=2)
    path = tmp_path / 'iter_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['random_states'] *= 2
    torch.save(checkpoint, path)
    said = []
    monkeypatch.setattr(MMLogger, 'log', lambda self, level, text: said.append(text))
    resume(tmp_path)
    assert any('those of 2 processes; this run has 1' in text for text in said)
