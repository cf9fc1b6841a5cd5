# K=3 with a ResNet-18 on CamVid. Not yet run here.
_base_ = './infopro_deeplabv3_mobilenet-v2_camvid.py'
model = dict(
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True),
    decode_head=dict(in_channels=512),
    auxiliary_head=dict(in_channels=256),
    local=dict(splits=['layer2.1', 'layer3.1']))
