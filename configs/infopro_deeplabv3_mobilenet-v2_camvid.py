# python tools/train.py configs/infopro_deeplabv3_mobilenet-v2_camvid.py \
#     --data-root CAMVID --cfg-options model.pretrained=mobilenet_v2_imagenet.pth
#
# K=3 on crops of 240x320; results in results/camvid.md.
_base_ = [
    './_base_/models/infopro_deeplabv3_r50-d8.py', './_base_/datasets/camvid.py',
    './_base_/default_runtime.py', './_base_/schedules/schedule_40k.py'
]
crop_size = (240, 320)
model = dict(
    pretrained='mmcls://mobilenet_v2',
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type='SyncBN', requires_grad=True)),
    decode_head=dict(
        in_channels=320, channels=96, dilations=(1, 6, 12, 18), num_classes=11),
    auxiliary_head=dict(in_channels=96, channels=48, num_classes=11),
    local=dict(
        num_modules=None,
        splits=['layer3.2', 'layer5.2'],
        head=dict(preset='lean')))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(480, 360),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
total_batch_size = 4
max_iters = 800
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=200)
default_hooks = dict(
    checkpoint=dict(interval=200, save_best='mIoU', max_keep_ckpts=1))
