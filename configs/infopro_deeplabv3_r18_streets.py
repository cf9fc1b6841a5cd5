# python tools/train.py configs/infopro_deeplabv3_r18_streets.py: nothing to download.
# K=3 with a narrow ResNet-18 from scratch on drawn street scenes of 128x256.
_base_ = [
    './_base_/models/infopro_deeplabv3_r50-d8.py', './_base_/datasets/drawn_streets.py',
    './_base_/default_runtime.py', './_base_/schedules/schedule_40k.py'
]
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(128, 256)),
    backbone=dict(depth=18, base_channels=32),
    decode_head=dict(in_channels=256, channels=64, dilations=(1, 3, 6, 9)),
    auxiliary_head=dict(in_channels=128, channels=32),
    local=dict(
        num_modules=None,
        splits=['layer2.1', 'layer3.1'],
        head=dict(preset='lean')))
total_batch_size = 8
max_iters = 250
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, end=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
val_dataloader = dict(dataset=dict(num_scenes=100))
test_dataloader = val_dataloader
