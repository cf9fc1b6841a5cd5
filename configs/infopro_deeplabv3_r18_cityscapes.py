# K=2 after the first block of stage 3 of R18. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
    local=dict(splits=['layer3.0']))
