# Pixel-wise supervised contrast in place of the local cross-entropy. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    local=dict(head=dict(segmentation=dict(type='PixelContrastHead'))))
