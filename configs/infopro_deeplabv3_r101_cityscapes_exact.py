# python tools/train.py configs/infopro_deeplabv3_r101_cityscapes_exact.py
#
# Exact end-to-end training by segments: the stock losses and gradients, bit for bit, and
# stock checkpoints. Five segments, four of them run again in backward. Counted on fake
# tensors, 4 images of 512x1024 a GPU: 5.06 GiB, 16.39 in stock training (30.9%), for
# 11.0% more FLOPs (docs/dial.md). Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    local=dict(
        splits=['layer2.1', 'layer3.4', 'layer3.13', 'layer3.22'],
        recompute=['decode_head'],
        end_to_end_every=1))
