"""Stages apart, in one process: what flows between them is all that there is."""

import copy
from collections import deque

import pytest
import torch

from infopro_seg.engine import RandomStreamsHook
from infopro_seg.models import owners_of
from infopro_seg.pipeline.messages import pack, rooms_for, unpack
from infopro_seg.pipeline.stage import PipelineStage
from tests.backbones import SIZE
from tests.helpers import (
    assert_equal,
    batch,
    build,
    early_backward,
    gradients,
    localized,
)
from tests.models.cascades import ocrnet_resnet
from tests.samples import some_of
from tests.units.networks import TRAINED, segmentor


class MemoryLink:
    """A link whose messages wait in memory, as bytes and flat tensors."""

    def __init__(self):
        self.messages = deque()

    def send(self, content):
        header, tensors = pack(content)
        self.messages.append((header, [tensor.clone() for tensor in tensors]))

    def receive(self):
        header, sent = self.messages.popleft()
        rooms = rooms_for(header, 'cpu')
        for room, tensor in zip(rooms, sent, strict=True):
            room.copy_(tensor)
        return unpack(header, rooms)

    def wait(self):
        assert not self.messages


def three_stages(config):
    """A network of three modules, a stage each."""
    config = localized(config, num_modules=3, pipeline=3)
    if isinstance(config['decode_head'], list):
        config['type'] = 'InfoProCascadeEncoderDecoder'
    return config


def train_step(model, data):
    """Forward and early backward passes; the losses, detached."""
    model.train()
    model.local_backward = early_backward
    streams = RandomStreamsHook()
    model.watchers = (streams._own_numbers,)
    torch.manual_seed(1)
    losses = model.loss(**model.data_preprocessor(copy.deepcopy(data), True))
    total, values = model.parse_losses(losses)
    total.backward()
    return {name: value.detach() for name, value in values.items()}


def in_stages(config, data):
    """A step of every stage, one after the other, each on a network of its own."""
    links = [None, *(MemoryLink() for _ in range(2)), None]
    models = [build(config) for _ in range(3)]
    for i, model in enumerate(models):
        model.stage = PipelineStage(range(i, i + 1), links[i], links[i + 1])
        losses = train_step(model, data)
    return models, losses


# The first module of hrnet-frozen has nothing to train.
FAMILIES = [*(name for name in TRAINED if name != 'hrnet-frozen'), 'ocrnet']


@pytest.mark.parametrize('name', some_of(FAMILIES, 'unet'))
def test_every_family_takes_the_step_of_one_process(name):
    config = ocrnet_resnet() if name == 'ocrnet' else segmentor(name)
    config = three_stages(config)
    data = batch(size=SIZE)
    whole = build(config)
    expected = train_step(whole, data)
    models, losses = in_stages(config, data)
    assert list(losses) == list(expected)
    assert_equal(losses, expected)
    owners = owners_of(whole)
    assert set(owners.values()) == {0, 1, 2}
    grads, buffers = gradients(whole), dict(whole.named_buffers())
    for index, model in enumerate(models):
        own = gradients(model)
        for parameter, grad in grads.items():
            if owners[parameter] == index:
                assert_equal({parameter: own[parameter]}, {parameter: grad})
            else:
                assert own[parameter] is None
        for buffer, value in model.named_buffers():
            if owners[buffer] == index:
                assert torch.equal(value, buffers[buffer]), buffer


def test_tensors_keep_how_they_lie_in_memory():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5)
    content = {
        'last': x.to(memory_format=torch.channels_last),
        'moved': x.permute(1, 3, 0, 2),
        'part': x[:, :2, ::2],
        'spread': x[:, :1].expand(2, 6, 4, 5),
        'none': x[:0],
        'number': x.sum(),
        'half': x.to(torch.bfloat16),
        'again': [x, x, {'and': x}],
        'plain': (None, 'text', 3),
    }
    header, tensors = pack(content)
    rooms = rooms_for(header, 'cpu')
    for room, tensor in zip(rooms, tensors, strict=True):
        room.copy_(tensor)
    back = unpack(header, rooms)
    assert len(tensors) == 8
    for key in ('last', 'moved', 'part', 'none', 'number', 'half'):
        assert torch.equal(back[key], content[key])
        assert back[key].stride() == content[key].stride()
        assert back[key].dtype == content[key].dtype
    assert torch.equal(back['spread'], content['spread'])
    assert back['plain'] == content['plain']
    first, second, third = *back['again'][:2], back['again'][2]['and']
    assert first is second is third


def test_headers_differ_only_where_more_than_values_do():
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    assert pack({'x': one})[0] == pack({'x': other})[0]
    assert pack({'x': one})[0] != pack({'x': other.T})[0]
    assert pack({'x': one})[0] != pack({'y': one})[0]
