# python tools/train.py configs/infopro_deeplabv3_r101_cityscapes.py
# on 2 GPUs: tools/dist_train.sh configs/infopro_deeplabv3_r101_cityscapes.py 2
#
# The paper's setting: K=2, cut after layer3.12, 512x1024, batch 8, 40k iterations.
# Paper: 79.37 mIoU, 12.01 GB a GPU (4 images each) against 79.12 and 19.43 GB end-to-end
# (Wang et al., ICLR 2021, Cityscapes val, single scale). Not yet run here.
_base_ = [
    './_base_/models/infopro_deeplabv3_r50-d8.py', './_base_/datasets/cityscapes.py',
    './_base_/default_runtime.py', './_base_/schedules/schedule_40k.py'
]
model = dict(
    pretrained='open-mmlab://resnet101_v1c',
    backbone=dict(depth=101),
    local=dict(num_modules=None, splits=['layer3.12']))
total_batch_size = 8  # divided over the GPUs by tools/train.py
