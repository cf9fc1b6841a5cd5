# The greedy baseline (DGL): local cross-entropy without reconstruction. Paper: 78.15
# mIoU. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(local=dict(head=dict(reconstruction=None)))
