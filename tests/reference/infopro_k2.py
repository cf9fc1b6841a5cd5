"""The reference's K=2 algorithm, restated independently of the package.

From the description of the released segmentation code of Wang et al., ICLR 2021: one
cut inside stage 3, a reconstruction decoder that ends in a sigmoid and binary
cross-entropy against the image in [0, 1], a segmentation head on the same map, the
second part trained with the network's own heads. Plain torch, nothing of infopro_seg.
"""

import torch
from torch import nn
from torch.nn import functional


def conv_bn_relu(in_channels, out_channels, kernel_size):
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class ReferenceHeads(nn.Module):
    """Both heads at the cut."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.decoder = nn.Sequential(
            conv_bn_relu(in_channels, 128, 1),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False),
            conv_bn_relu(128, 32, 3),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False),
            conv_bn_relu(32, 12, 3),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False),
            nn.Conv2d(12, 3, 3, padding=1),
            nn.Sigmoid(),
        )
        self.segment = nn.Sequential(
            conv_bn_relu(in_channels, 512, 3),
            nn.Dropout2d(0.1),
            nn.Conv2d(512, num_classes, 1),
        )

    def forward(self, feature, image, label):
        loss_recon = functional.binary_cross_entropy(self.decoder(feature), image)
        logits = functional.interpolate(
            self.segment(feature), size=label.shape[-2:], mode='bilinear'
        )
        return loss_recon, cross_entropy(logits, label)


def cross_entropy(logits, label):
    """Mean over all pixels, ignored ones counting as zero (mmseg 0.x)."""
    per_pixel = functional.cross_entropy(
        logits, label, reduction='none', ignore_index=255
    )
    return per_pixel.mean()


def reference_step(
    backbone, decode_head, auxiliary_head, heads, cut, batch, lambdas, mean, std
):
    """One training step: two backward passes, gradients left in the modules.

    Args:
        backbone: A stock ResNet with a deep stem.
        decode_head: The network's head; ``forward`` gives logits.
        auxiliary_head: The same, on stage 3.
        heads: ReferenceHeads.
        cut: (stage, block) after which the network is cut, such as (3, 12).
        batch: (normalised images, labels (N, H, W)).
        lambdas: lambda1, lambda2.
        mean: (3, 1, 1), as the images were normalised.
        std: Likewise.

    Returns:
        Losses by name.
    """
    image, label = batch
    target = ((image * std + mean) / 255).clamp(0, 1)  # rounding leaves the range
    outputs = []
    losses = {}
    x = backbone.maxpool(backbone.stem(image))
    for stage in range(1, 5):
        for i, block in enumerate(getattr(backbone, f'layer{stage}')):
            x = block(x)
            if (stage, i) == cut:
                recon, seg = heads(x, target, label)
                losses['recon'] = lambdas[0] * recon
                losses['seg'] = lambdas[1] * seg
                (losses['recon'] + losses['seg']).backward()
                x = x.detach()
        outputs.append(x)
    for name, head, weight in (
        ('decode', decode_head, 1.0),
        ('aux', auxiliary_head, 0.4),
    ):
        logits = functional.interpolate(
            head(outputs), size=label.shape[-2:], mode='bilinear'
        )
        losses[name] = weight * cross_entropy(logits, label)
    (losses['decode'] + losses['aux']).backward()
    return {name: loss.detach() for name, loss in losses.items()}


def copy_head_weights(local_head, heads):
    """Give the reference's heads the weights of a built local head, in order."""
    for ours, theirs in (
        (local_head.reconstruction, heads.decoder),
        (local_head.segmentation, heads.segment),
    ):
        state = ours.state_dict()
        # mmseg registers the classifier before the convolutions below it.
        last = {k: v for k, v in state.items() if k.startswith('conv_seg')}
        ordered = {k: v for k, v in state.items() if k not in last} | last
        names = list(theirs.state_dict())
        assert len(names) == len(ordered)
        theirs.load_state_dict(dict(zip(names, ordered.values(), strict=True)))


def paired_parameters(local_head, heads):
    """Corresponding parameters of both, as (ours, theirs)."""
    pairs = []
    for ours, theirs in (
        (local_head.reconstruction, heads.decoder),
        (local_head.segmentation, heads.segment),
    ):
        named = dict(ours.named_parameters())
        last = {k: v for k, v in named.items() if k.startswith('conv_seg')}
        ordered = {k: v for k, v in named.items() if k not in last} | last
        pairs += zip(ordered.values(), theirs.parameters(), strict=True)
    return pairs


def stack_labels(data_samples):
    return torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples])
