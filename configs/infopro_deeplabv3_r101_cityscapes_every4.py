# python tools/train.py configs/infopro_deeplabv3_r101_cityscapes_every4.py
#
# K=5 local modules with lean heads; every fourth step of the optimizer is exact
# end-to-end training (docs/dial.md). Counted on fake tensors, 4 images of 512x1024 a
# GPU: 5.08 GiB in an exact step, 4.74 in a local one, 16.39 in stock training. Not yet
# run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    local=dict(
        splits=['layer2.1', 'layer3.4', 'layer3.13', 'layer3.22'],
        head=dict(preset='lean'),
        recompute=['decode_head'],
        end_to_end_every=4))
