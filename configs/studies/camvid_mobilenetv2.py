# The network and the data of camvid_mobilenetv2.yaml: DeepLabV3 with MobileNetV2 on
# CamVid at half resolution. Labels of validation keep their size.
_base_ = '../infopro_deeplabv3_mobilenet-v2_camvid.py'
crop_size = (160, 208)
scale = (240, 180)
model = dict(
    data_preprocessor=dict(size=crop_size),
    local=dict(splits=[], head=dict(preset='lean')))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=scale,
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
# Runs side by side on the cores of one machine load their data themselves.
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
total_batch_size = 8
