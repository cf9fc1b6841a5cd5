# python tools/train.py configs/infopro_pspnet_r101_cityscapes.py
# on 4 GPUs: tools/dist_train.sh configs/infopro_pspnet_r101_cityscapes.py 4
#
# PSPNet with ResNet-101 on Cityscapes in K=4 local modules. Predicted for 2 images of
# 512x1024, float32: 8.31 GiB end-to-end, 2.76 GiB so (33%), +1.7% FLOPs. Not yet
# trained here.
# Splits from
#   python tools/plan.py mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(splits=['layer3.2', 'layer3.12', 'layer3.22']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
