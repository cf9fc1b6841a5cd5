# python tools/train.py configs/infopro_deeplabv3_r101_cityscapes_exact.py
#
# Exact end-to-end training by segments: the stock losses and gradients, bit for bit, and
# stock checkpoints. Five segments, four of them run again in backward. Counted on fake
# tensors, 4 images of 512x1024 per GPU: 4.56 GiB, 16.39 in stock training (27.8%), for
# 12.7% more FLOPs (docs/dial.md).
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    local=dict(
        splits=['layer2.3', 'layer3.7', 'layer3.15', 'layer3.22'],
        recompute=['layer4.2', 'decode_head'],
        end_to_end_every=1))
