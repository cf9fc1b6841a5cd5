# The network and the data of demo.yaml: three stages of a narrow ResNet-50 and a decode
# head at a quarter of the resolution, so that thin things are learnt within minutes.
_base_ = '../infopro_deeplabv3_r18_streets.py'
# About one over the root of how often a class is seen, so that small ones count.
class_weight = [
    0.3, 0.5, 0.3, 1.2, 1.4, 1.0, 2.0, 1.8, 0.5, 1.2, 0.3, 1.0, 1.9, 0.7, 1.0, 1.1,
    1.2, 1.6, 1.6]
loss = dict(
    type='CrossEntropyLoss', use_sigmoid=False, class_weight=class_weight)
model = dict(
    backbone=dict(
        depth=50,
        base_channels=16,
        stem_channels=32,
        num_stages=3,
        out_indices=(0, 1, 2),
        strides=(1, 2, 1),
        dilations=(1, 1, 2)),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=256,
        in_index=2,
        channels=48,
        dilations=(1, 3, 6, 9),
        c1_in_channels=64,
        c1_channels=16,
        loss_decode=dict(class_weight=class_weight)),
    auxiliary_head=None,
    local=dict(
        _delete_=True,
        splits=[],
        head=dict(preset='lean', segmentation=dict(loss_decode=loss))))
total_batch_size = 4
max_iters = 500
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=40, by_epoch=False),
    dict(type='PolyLR', eta_min=0, power=0.9, begin=40, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_imports = dict(imports=['infopro_seg', 'infopro_seg.benchmark.peak_memory_hook'])
custom_hooks = [dict(type='LocalTrainingHook'), dict(type='PeakMemoryHook')]
train_pipeline = [
    dict(type='DrawScene'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# Both runs have a core each and draw their scenes themselves.
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
