# K=2 in the middle of stage 3 of R50. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    pretrained='open-mmlab://resnet50_v1c',
    backbone=dict(depth=50),
    local=dict(splits=['layer3.2']))
