"""What every process of the distributed tests runs; imported by the children."""

from types import SimpleNamespace

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn
from torch.distributed.nn.functional import all_reduce

from infopro_seg.engine import LocalBackwardHook, LossGuardHook
from tests.helpers import batch, build, deeplabv3, localized, resnet

NUM_RANKS = 2
NUM_STEPS = 3
BAD_ITERATION = 1
CASES = {
    'plain': {},
    'accumulation': {'accumulative_counts': 2},
    'recompute': {'local': {'recompute': 'all'}},
    'end-to-end': {'local': {'end_to_end_every': 1, 'recompute': 'all'}},
    'every other step': {'local': {'end_to_end_every': 2}},
    'clipping': {'clip_grad': {'max_norm': 0.1}},
    # local_0 and its head have nothing to train.
    'look ahead': {'local': {'head': {'look_ahead': 2}}},
    'deep supervision': {'local': {'deep_supervision': True}},
    'frozen': {'local': {'splits': ['layer1.1', 'layer3.0']}, 'frozen_stages': 1},
}


def model_of(local=None, frozen_stages=-1):
    """A network without randomness, whose norm layers do not mix the images."""
    model = mixing_model(local, frozen_stages)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def mixing_model(local=None, frozen_stages=-1):
    """A network without randomness; its norm layers use the batch's statistics."""
    local = {'num_modules': 3} | (local or {})
    if 'splits' in local:
        del local['num_modules']
    backbone = resnet(stem_channels=8, base_channels=8, frozen_stages=frozen_stages)
    config = localized(deeplabv3(backbone, widths=(8, 16, 32, 64)), **local)
    for head in ('decode_head', 'auxiliary_head'):
        config[head]['dropout_ratio'] = 0.0
    return build(config)


class CpuSyncBN(nn.Module):
    """Normalises by the images of all ranks; torch's SyncBN has no CPU kernels.

    Like torch's it talks to the other ranks in forward and in backward, between
    the messages of DistributedDataParallel.
    """

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x):
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        mean, square = all_reduce(moments) / NUM_RANKS
        scale = self.weight / (square - mean.square() + self.eps).sqrt()
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def synchronize_norms(model):
    """Replace every norm layer by the stand-in for SyncBN."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, CpuSyncBN(child))
    return model


def split_case(case):
    """Settings of the model, and of training."""
    model = {key: case[key] for key in ('local', 'frozen_stages') if key in case}
    return model, {key: case[key] for key in case.keys() - model.keys()}


def data_of(iteration, ranks):
    """The images that these ranks see in one iteration, 2 each."""
    parts = [batch(2, seed=NUM_RANKS * iteration + rank) for rank in ranks]
    return {key: sum((part[key] for part in parts), []) for key in parts[0]}


def train(model, data, *, accumulative_counts=1, clip_grad=None, on_divergence='stop'):
    """One training iteration for each batch, as the runner does it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    wrapper = OptimWrapper(
        optimizer,
        accumulative_counts=accumulative_counts,
        clip_grad=dict(clip_grad) if clip_grad else None,
    )
    wrapper.initialize_count_status(model, 0, len(data))
    hooks = [LocalBackwardHook(), LossGuardHook(on_divergence)]
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0)
    for hook in hooks:
        hook.before_train(runner)
    for i, item in enumerate(data):
        runner.iter = i
        for hook in hooks:
            hook.before_train_iter(runner, i, item)
        model.train_step(item, optim_wrapper=wrapper)
    for hook in hooks:
        hook.after_train(runner)


def num_iterations(accumulative_counts=1, **_):
    """Iterations of one process that make NUM_STEPS steps of the optimizer."""
    return NUM_STEPS * accumulative_counts


def poison(model, iteration):
    """Let one iteration of this process end in NaN."""
    calls = []

    def forward_hook(module, args, output):
        calls.append(1)
        return output * float('nan') if len(calls) == iteration + 1 else output

    model.backbone.stem[0].register_forward_hook(forward_hook)


def train_wrapped(model, rank, num, **settings):
    """Train in this process, on its share of the images."""
    wrapped = MMDistributedDataParallel(
        model,
        broadcast_buffers=False,
        find_unused_parameters=True,
        # Many buckets, as a large network has.
        bucket_cap_mb=0.05,
    )
    train(wrapped, [data_of(i, [rank]) for i in range(num)], **settings)
    return model.state_dict()


def run_rank(rank, folder):
    """Train all cases in one of the processes and save the weights."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f'{folder}/store', NUM_RANKS)
    torch.distributed.init_process_group(
        'gloo', store=store, rank=rank, world_size=NUM_RANKS
    )
    weights = {}
    for name, case in CASES.items():
        model, settings = split_case(case)
        num = num_iterations(**settings)
        weights[name] = train_wrapped(model_of(**model), rank, num, **settings)
    # float64, as norm layers make large differences of small ones.
    model = synchronize_norms(mixing_model()).double()
    weights['sync_bn'] = train_wrapped(model, rank, NUM_STEPS)
    model = model_of()
    if rank == 1:
        poison(model, BAD_ITERATION)
    weights['skipped'] = train_wrapped(model, rank, NUM_STEPS, on_divergence='skip')
    torch.save(weights, f'{folder}/rank_{rank}.pth')
    torch.distributed.destroy_process_group()
