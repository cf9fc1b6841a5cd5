"""Parts of a network, and optimizers, that do not run on fake tensors; or not quite."""

import torch
from mmseg.models.backbones import ResNetV1c
from mmseg.registry import MODELS, OPTIMIZERS
from torch import nn

from tests.planner.networks import tiny


class NumpyFunction(torch.autograd.Function):
    """Leaves PyTorch on the way forward, as operators of one's own may."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(2 * x.numpy())

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class NumpyBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return torch.from_numpy(2 * grad.numpy())


@MODELS.register_module()
class NumpyForwardAct(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()

    def forward(self, x):
        return NumpyFunction.apply(x)


@MODELS.register_module()
class NumpyBackwardAct(NumpyForwardAct):
    def forward(self, x):
        return NumpyBackward.apply(x)


@MODELS.register_module()
class ForeignAct(NumpyForwardAct):
    """Calls an operator that PyTorch knows nothing about."""

    def forward(self, x):
        return torch.ops.stubborn.twice(x)


@MODELS.register_module()
class BranchingAct(NumpyForwardAct):
    """Runs by a value, but the same in either case."""

    def forward(self, x):
        return x.relu() if x.mean().item() > 0 else x.abs()


@MODELS.register_module()
class HalvingAct(NumpyForwardAct):
    """Runs until a value is small."""

    def forward(self, x):
        while x.abs().max().item() > 0.1:
            x = x / 2
        return x


@MODELS.register_module()
class SlicingAct(NumpyForwardAct):
    """A shape that depends on a value fits nowhere if the value is assumed."""

    def forward(self, x):
        num = max(1, int(x.detach().abs().max().item() * 0)) * x.shape[1]
        if not x.isfinite().all().item() or x.abs().max().item() == 0.5:
            num = 1
        return x[:, :num]


torch.library.define('stubborn::twice', '(Tensor x) -> Tensor')


@torch.library.impl('stubborn::twice', 'CPU')
def _twice(x):
    return 2 * x


class _PlainSGD(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {'lr': lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    self.update(parameter, group['lr'])


@OPTIMIZERS.register_module()
class NumpySGD(_PlainSGD):
    def update(self, parameter, lr):
        parameter.sub_(torch.from_numpy(lr * parameter.grad.numpy()))


@OPTIMIZERS.register_module()
class NormReadingSGD(_PlainSGD):
    def update(self, parameter, lr):
        norm = parameter.grad.norm().item()
        parameter.sub_(parameter.grad, alpha=lr / max(norm, 1))


def stubborn(act, **local):
    """The tiny network with such an activation in ``layer2.0``."""
    model = tiny(**local)
    model['backbone'] = {**model['backbone'], 'type': 'StubbornNet', 'act': act}
    return model


@MODELS.register_module()
class StubbornNet(ResNetV1c):
    def __init__(self, act, **kwargs):
        super().__init__(**kwargs)
        self.layer2[0].relu = MODELS.build({'type': act})
