"""Small networks and batches shared by the tests."""

import copy

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

import infopro_seg  # noqa: F401  registers everything
from infopro_seg.models.local_backward import local_backward

register_all_modules()
# init_weights logs three lines a parameter.
MMLogger.get_current_instance().setLevel('ERROR')

MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]
BN = {'type': 'BN', 'requires_grad': True}


def resnet(depth=18, cls='ResNetV1c', **kwargs):
    """A ResNet backbone with the strides of the D8 networks."""
    return {
        'type': cls,
        'depth': depth,
        'num_stages': 4,
        'out_indices': (0, 1, 2, 3),
        'dilations': (1, 1, 2, 4),
        'strides': (1, 2, 1, 1),
        'norm_cfg': BN,
        'norm_eval': False,
        'style': 'pytorch',
        'contract_dilation': True,
        **kwargs,
    }


#: A backbone of an eighth of the usual width, and the channels of its stages.
NARROW = resnet(stem_channels=8, base_channels=8)
WIDTHS = (8, 16, 32, 64)


def deeplabv3(backbone=None, widths=(64, 128, 256, 512), auxiliary=2, **kwargs):
    """A stock DeepLabV3 config with narrow heads; ``auxiliary`` is an index or None."""
    head = {
        'num_classes': 5,
        'norm_cfg': BN,
        'align_corners': False,
        'loss_decode': {'type': 'CrossEntropyLoss', 'loss_weight': 1.0},
    }
    model = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {
            'type': 'SegDataPreProcessor',
            'mean': MEAN,
            'std': STD,
            'bgr_to_rgb': True,
            'pad_val': 0,
            'seg_pad_val': 255,
            'size': (64, 64),
        },
        'backbone': copy.deepcopy(backbone) or resnet(),
        'decode_head': {
            'type': 'ASPPHead',
            'in_channels': widths[-1],
            'in_index': len(widths) - 1,
            'channels': 16,
            'dilations': (1, 2),
            'dropout_ratio': 0.1,
            **head,
        },
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
        **kwargs,
    }
    if auxiliary is not None:
        model['auxiliary_head'] = {
            'type': 'FCNHead',
            'in_channels': widths[auxiliary],
            'in_index': auxiliary,
            'channels': 16,
            'num_convs': 1,
            'concat_input': False,
            **copy.deepcopy(head),
            'loss_decode': {'type': 'CrossEntropyLoss', 'loss_weight': 0.4},
        }
    return model


def localized(model, **local):
    """The same config as local modules; by default cut in two."""
    if not local.keys() & {'splits', 'num_modules'}:
        local['num_modules'] = 2
    return {**copy.deepcopy(model), 'type': 'InfoProEncoderDecoder', 'local': local}


def build(model, seed=0):
    """Build a model with reproducible weights, in training mode."""
    torch.manual_seed(seed)
    network = MODELS.build(ConfigDict(copy.deepcopy(model)))
    network.init_weights()
    network.train()
    return network


def batch(num=2, size=(64, 64), num_classes=5, seed=0):
    """Raw images and labels as a loader gives them; some labels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for i in range(num):
        inputs.append(
            torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
        )
        label = torch.randint(0, num_classes, (1, *size), generator=generator)
        label[:, : size[0] // 8] = 255
        sample = SegDataSample(metainfo={'img_path': f'image_{i}.png'})
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


def losses_of(model, data=None, seed=1):
    """All losses of one batch, from a fixed state of the random generator."""
    data = model.data_preprocessor(copy.deepcopy(data or batch()), training=True)
    torch.manual_seed(seed)
    return model.loss(**data)


class _PlainWrapper:
    """An optimizer wrapper without accumulation or scaling."""

    @staticmethod
    def scale_loss(loss):
        return loss


def early_backward(module, losses):
    """What LocalBackwardHook does about a module's losses."""
    return local_backward(_PlainWrapper, module, losses)


def gradients(model):
    """Copies of all gradients by name; None where there is none."""
    return {
        name: None if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def assert_equal(left, right):
    """Bit-equal dicts of tensors or None."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        other = right[name]
        assert (value is None) == (other is None), name
        if value is not None:
            assert torch.equal(value, other), name
