"""A canary for each private part of the hosts: it fails with the name of what moved."""

import contextlib
import gc
import inspect
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import HOOKS, MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from infopro_seg import compat
from infopro_seg.planner.profile.allocation import AllocationTracker
from tests.helpers import batch, build, deeplabv3, localized
from tests.runs import run_training

aten = torch.ops.aten


# What we override


def own_classes():
    for registry in (HOOKS, MODELS):
        for cls in registry.module_dict.values():
            if cls.__module__.startswith('infopro_seg.'):
                yield cls


def test_all_overridden_private_methods_are_listed():
    listed = {name for _, name in compat.OVERRIDDEN}
    found = set()
    for cls in own_classes():
        hosts = [base for base in cls.__mro__ if base.__module__.startswith('mm')]
        for name in vars(cls):
            is_private = name.startswith('_') and not name.endswith('_')
            if is_private and any(
                inspect.isfunction(vars(host).get(name)) for host in hosts
            ):
                found.add(name)
    assert found == listed


@pytest.mark.parametrize(('host', 'name'), compat.OVERRIDDEN, ids=lambda x: str(x))
def test_the_host_calls_what_is_overridden(host, name):
    assert inspect.isfunction(getattr(host, name, None)), f'{host.__name__}.{name}'
    calls = inspect.getsource(host).count(f'self.{name}(')
    assert calls, f'{host.__name__} no longer calls {name}'


# torch


def cpu():
    return torch.ones(4, 4)


def meta():
    return torch.empty(4, 4, device='meta')


def fake():
    with compat.FakeTensorMode():
        return torch.empty(4, 4)


tensors = pytest.mark.parametrize('make', [cpu, meta, fake])


@tensors
def test_views_have_the_storage_key_of_their_base(make):
    x, other = make(), make()
    assert compat.storage_key(x) == compat.storage_key(x.view(16)[3:])
    assert compat.storage_key(x) == compat.storage_key(x.detach())
    assert compat.storage_key(x) != compat.storage_key(other)


@tensors
def test_a_storage_calls_back_when_it_is_freed_and_not_before(make):
    x = make()
    freed = []
    key = compat.storage_key(x)
    ref = weakref.ref(x.untyped_storage(), lambda _: freed.append(key))
    view = x.view(16)
    del x
    gc.collect()
    assert not freed, 'the Python object of a storage goes before the storage'
    assert ref() is view.untyped_storage()
    del view
    assert freed == [key], 'a freed storage does not call back'


def test_a_storage_that_only_autograd_holds_stays_known():
    weight = torch.ones(4, 4, requires_grad=True)
    x = cpu()
    freed = []
    ref = weakref.ref(x.untyped_storage(), lambda _: freed.append(1))
    y = (x * weight).sum()
    del x
    gc.collect()
    assert not freed
    assert ref() is not None
    y.backward()
    del y
    assert freed


def test_no_key_is_given_twice_before_the_call_back():
    """Storages come and go at the same addresses; the book always knows which."""
    alive = {}

    def note(tensor):
        key = compat.storage_key(tensor)
        assert key not in alive, 'a new storage has the key of one that is alive'
        alive[key] = weakref.ref(
            tensor.untyped_storage(), lambda _: alive.pop(key, None)
        )

    held = []
    for i in range(2000):
        tensor = torch.empty(i % 7 + 1)
        note(tensor)
        held.append(tensor)
        if i % 3:
            held.pop(i % len(held))
        del tensor
        assert len(alive) == len(held)


def test_versions_count_writes():
    x = cpu()
    before = compat.version_of(x)
    x.add_(1)
    assert compat.version_of(x) == before + 1


def test_operators():
    assert compat.packet_of(aten.add.Tensor) is aten.add
    assert compat.packet_of(aten.add.Tensor).__name__ == 'add'
    assert compat.is_mutable(aten.add_.Tensor)
    assert not compat.is_mutable(aten.add.Tensor)
    x, y, out = cpu(), cpu(), cpu()
    (written,) = compat.written_tensors(aten.add_.Tensor, (x, y), {})
    assert written is x
    (written,) = compat.written_tensors(aten.add.out, (x, y), {'out': out})
    assert written is out


def test_what_operators_are_called():
    seen = []

    class Spy(compat.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x = cpu()
    with Spy():
        x.to(torch.float64)
        x[0, 0].item()
        torch.unique(x)
    assert {compat.TO_COPY, compat.READ_VALUE, compat.UNIQUE} <= set(seen)


def test_compiled_code_keeps_what_its_budget_allows():
    """And runs as compiled under a mode that lets compiled code alone."""
    torch.compiler.reset()
    layers = nn.Sequential(*(m for _ in range(6) for m in (nn.Linear(8, 8), nn.GELU())))
    x = torch.ones(64, 8)
    kept = []
    for budget in (1.0, 0.2):
        backend = compat.backend_with_budget('aot_eager', budget)
        compiled = torch.compile(layers.forward, backend=backend, dynamic=False)
        compiled(x).sum().backward()
        tracker = AllocationTracker()
        with tracker:
            result = compiled(x)
        kept.append(tracker.live_bytes)
        del result
    assert kept[1] < 0.7 * kept[0]


def test_products_are_operators():
    assert len(compat.PRODUCTS) == 9
    assert {aten.convolution.default, aten.addmm.default} < compat.PRODUCTS


def test_trees():
    tree = {'a': [1, (2.0, 3)], 'b': 4}
    assert compat.tree_leaves(tree) == [1, 2.0, 3, 4]
    assert compat.tree_map(lambda x: x + 1, tree) == {'a': [2, (3.0, 4)], 'b': 5}
    only_ints = compat.tree_map_only(int, lambda x: -x, tree)
    assert only_ints == {'a': [-1, (2.0, -3)], 'b': -4}


def test_fake_tensors_can_be_left_for_a_moment():
    with compat.FakeTensorMode():
        fake_tensor = torch.empty(2)
        with compat.unset_fake_temporarily():
            real = torch.empty(2)
    assert type(real) is torch.Tensor
    assert type(fake_tensor) is not torch.Tensor


def test_base_classes():
    for layer in (nn.Conv2d(1, 1, 1), nn.ConvTranspose2d(1, 1, 1)):
        assert isinstance(layer, compat.ConvNd)
    for norm in (nn.BatchNorm2d(1), nn.SyncBatchNorm(1), nn.InstanceNorm2d(1)):
        assert isinstance(norm, compat.NormBase)


def test_a_state_dict_has_the_versions_of_its_modules():
    state = nn.BatchNorm2d(1).state_dict()
    given = OrderedDict(state)
    compat.copy_versions(state, given)
    assert given._metadata['']['version'] == nn.BatchNorm2d._version
    compat.copy_versions({}, given)
    assert given._metadata == {}


# mmengine


def test_a_runner_says_whether_it_trains_and_resumes(tmp_path):
    runner = run_training(
        build(localized(deeplabv3(), splits=['layer2.0'])), tmp_path, iterations=1
    )
    assert compat.is_training(runner)
    assert not compat.is_resumed(runner)
    parameters = inspect.signature(Runner.__init__).parameters
    assert 'resume' in parameters
    assert isinstance(runner.train_loop, IterBasedTrainLoop)
    iterator = runner.train_loop.dataloader_iterator
    assert hasattr(iterator, '_epoch'), 'the epoch of the data iterator'


@pytest.mark.parametrize('cls', [IterBasedTrainLoop, EpochBasedTrainLoop])
def test_loops_decide_how_often_they_validate_by_one_method(cls):
    loop = object.__new__(cls)
    loop.dynamic_milestones, loop.dynamic_intervals = [0, 5], [3, 1]
    for done, interval in ((3, 3), (4, 1)):
        loop._iter = loop._epoch = done
        compat.decide_validation_interval(loop)
        assert loop.val_interval == interval
    # Before each time it asks whether to validate.
    source = inspect.getsource(cls.run)
    assert source.count('self._decide_current_val_interval()') == 1


def test_an_optimizer_wrapper_says_how_it_accumulates():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1)
    assert vars(OptimWrapper(optimizer, accumulative_counts=3))['_accumulative_counts']
    assert compat.accumulative_counts(OptimWrapper(optimizer)) == 1
    wrapper = OptimWrapper(optimizer, accumulative_counts=3)
    assert compat.accumulative_counts(wrapper) == 3


def test_loaders_of_checkpoints_are_as_before():
    before = dict(CheckpointLoader._schemes)
    assert '' in before
    with compat.loading_schemes() as schemes:
        schemes[''] = None
        assert CheckpointLoader._schemes is schemes
    assert dict(CheckpointLoader._schemes) == before


def test_every_checkpoint_passes_through():
    stock = CheckpointLoader.__dict__['load_checkpoint']
    with compat.loading_through(lambda load: lambda name, *_, **__: f'loaded {name}'):
        assert CheckpointLoader.load_checkpoint('a.pth', map_location='cpu')
        assert _load_checkpoint('a.pth', map_location='cpu') == 'loaded a.pth'
    assert CheckpointLoader.__dict__['load_checkpoint'] is stock


def test_names_of_checkpoints_on_disk():
    assert compat.is_on_disk('a.pth')
    assert compat.is_on_disk('~/a.pth')
    assert not compat.is_on_disk('https://x/a.pth')
    assert not compat.is_on_disk('cluster:s3://x/a.pth')


def test_configs(tmp_path):
    cfg = Config({'model': {'type': 'A'}})
    compat.config_dict(cfg)['model']['type'] = 'B'
    assert cfg.model.type == 'B'
    text, pure = tmp_path / 'text.py', tmp_path / 'pure.py'
    text.write_text("_base_ = './base.py'\n")
    pure.write_text(
        'from mmengine.config import read_base\nwith read_base():\n    pass\n'
    )
    assert compat.is_pure_python(str(pure))
    assert not compat.is_pure_python(str(text))


def test_what_a_base_is_called(tmp_path, monkeypatch):
    (tmp_path / 'base.py').write_text("a = dict(type='A')\n")
    (tmp_path / 'child.py').write_text("_base_ = 'mine::it'\nb = {{_base_.a}}\n")
    stock = Config.__dict__['_get_cfg_path']
    monkeypatch.setattr(Config, '_get_cfg_path', stock)
    asked = []

    def find(name):
        asked.append(name)
        return tmp_path / 'base.py'

    compat.name_bases('mine', find)
    cfg = Config.fromfile(tmp_path / 'child.py')
    assert asked == ['mine::it']
    assert cfg.to_dict() == {'a': {'type': 'A'}, 'b': {'type': 'A'}}


def test_parse_losses_uses_nothing_of_its_model():
    total, log = BaseModel.parse_losses(None, {'loss_a': torch.ones(2), 'acc': cpu()})
    assert total == 1
    assert log['loss'] == 1


def test_checkpoint_hook_writes_through_one_method():
    source = inspect.getsource(CheckpointHook.after_train_iter)
    assert '_save_checkpoint' in source


# mmseg


def test_labels_of_a_head():
    head = MODELS.build({
        'type': 'FCNHead', 'in_channels': 4, 'channels': 4, 'num_classes': 5,
        'num_convs': 0, 'concat_input': False,
        'loss_decode': {'type': 'CrossEntropyLoss'},
    })  # fmt: skip
    assert isinstance(head, BaseDecodeHead)
    samples = batch(2, (8, 8))['data_samples']
    assert compat.labels_of(head, samples).shape == (2, 1, 8, 8)


def test_backbones():
    unet = MODELS.get('UNet')
    vit = MODELS.get('VisionTransformer')
    assert hasattr(unet, '_check_input_divisible')
    parameters = list(inspect.signature(vit._pos_embeding).parameters)
    assert parameters == ['self', 'patched_img', 'hw_shape', 'pos_embed']


# numpy


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_every_checkpoint_runs_again_in_contexts_of_ours(use_reentrant):
    entered = []

    @contextlib.contextmanager
    def noted(what):
        entered.append(what)
        yield

    def contexts(function):
        return noted(('first', function)), noted(('again', function))

    def run(scale=torch.sin):
        x = torch.ones(2, requires_grad=True)
        checkpoint(scale, x, use_reentrant=use_reentrant).sum().backward()
        return x.grad

    plain = run()
    with compat.checkpoints_repeated_in(contexts):
        with compat.checkpoints_repeated_in(None):
            assert torch.equal(run(), plain)
        assert not entered
        assert torch.equal(run(), plain)
    assert entered == [('first', torch.sin), ('again', torch.sin)]
    run()
    assert len(entered) == 2


@pytest.mark.parametrize('contexts', [None, lambda function: noop_context_fn()])
def test_errors_in_a_checkpointed_function_are_its_own(contexts):
    def fail(x):
        raise OSError('in the middle')

    x = torch.ones(2, requires_grad=True)
    with compat.checkpoints_repeated_in(contexts):
        for use_reentrant in (True, False):
            with pytest.raises(OSError, match='in the middle'):
                checkpoint(fail, x, use_reentrant=use_reentrant)


def test_numpy_pickles_by_these_functions():
    names = {array.__reduce__()[0] for array in (np.ones(2), np.float64(1))}
    assert names == set(compat.NUMPY_PICKLES)


def test_nothing_else_is_exported():
    assert sorted(compat.__all__) == sorted(set(compat.__all__))
    assert all(hasattr(compat, name) for name in compat.__all__)
