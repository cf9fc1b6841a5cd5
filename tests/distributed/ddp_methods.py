"""Ways to train local modules under DistributedDataParallel, to be compared."""

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import nn

from infopro_seg.engine.local_module_monitor_hook import _parameters_of
from infopro_seg.models.local_backward import local_backward
from infopro_seg.settings.splits import even_splits
from infopro_seg.units import State, units_of
from tests.helpers import build, deeplabv3, localized, resnet


class Method:
    """A network with its optimizer, trained by one of the methods."""

    find_unused_parameters = False
    is_local = True

    def __init__(self, depth, seed):
        widths = (64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048)
        # The auxiliary head reads layer3, which ends in the last module.
        config = deeplabv3(resnet(depth), widths)
        config['decode_head']['channels'] = 128
        names = [unit.name for unit in units_of(build(config).backbone)]
        if self.is_local:
            config = localized(config, splits=list(even_splits(names, 3)))
        self.model = build(config, seed)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.wrapper = OptimWrapper(optimizer)
        self.wrap()

    def wrap(self):
        self.wrapped = MMDistributedDataParallel(
            self.model,
            broadcast_buffers=False,
            find_unused_parameters=self.find_unused_parameters,
        )

    def differentiate(self, data):
        losses = self.wrapped(**data, mode='loss')
        self.model.parse_losses(losses)[0].backward()

    def step(self, data):
        self.wrapper.zero_grad()
        self.differentiate(self.model.data_preprocessor(data, training=True))
        self.wrapper.step()


class Summed(Method):
    pass


class Stock(Method):
    is_local = False


class Hook(Method):
    find_unused_parameters = True

    def wrap(self):
        super().wrap()
        self.model.local_backward = self.local_backward

    def local_backward(self, module, losses):
        return local_backward(self.wrapper, module, losses)


class HandOut(Method):
    def wrap(self):
        super().wrap()
        self.owned = _parameters_of(self.model)
        self.model.local_backward = self.local_backward

    def local_backward(self, module, losses):
        parameters = self.owned[module.name]
        trained = [name for name in losses if 'loss' in name]
        grads = torch.autograd.grad(sum(losses[n] for n in trained), parameters)
        losses = {name: value.detach() for name, value in losses.items()}
        losses[trained[0]] = _Give.apply(losses[trained[0]], grads, *parameters)
        return losses


class _Give(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx, loss, grads, *parameters):
        ctx.grads = grads
        return loss.clone()

    @staticmethod
    def backward(ctx, scale):
        grads, ctx.grads = ctx.grads, None
        return None, None, *(grad.mul_(scale) for grad in grads)


class Reducers(Method):
    def wrap(self):
        owned = _parameters_of(self.model)
        self.stages = [
            MMDistributedDataParallel(Stage(self.model, module, owned[module.name]))
            for module in self.model.local_modules
        ]

    def differentiate(self, data):
        state = None
        for stage in self.stages:
            state, losses = stage(state, data)
            self.model.parse_losses(losses)[0].backward()
            del losses


class Stage(nn.Module):
    """One local module; it has the parameters that its reducer averages."""

    def __init__(self, model, module, parameters):
        super().__init__()
        self.weights = nn.ParameterList(parameters)
        # In a tuple the network is no submodule.
        self.network, self.module = (model,), module

    def forward(self, state, data):
        (model,), module = self.network, self.module
        inputs, samples = data['inputs'], data['data_samples']
        states = [State(inputs) if state is None else state]
        if module is model.local_modules[-1]:
            return None, model.last_losses(module(model.backbone, *states), samples)
        losses = model._run_local(module, states, inputs, samples)
        return states.pop(), losses


METHODS = {
    'hook': Hook,
    'reducers': Reducers,
    'hand-out': HandOut,
    'summed': Summed,
    'stock': Stock,
}
