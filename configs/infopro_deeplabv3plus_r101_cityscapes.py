# python tools/train.py configs/infopro_deeplabv3plus_r101_cityscapes.py
# on 4 GPUs: tools/dist_train.sh configs/infopro_deeplabv3plus_r101_cityscapes.py 4
#
# DeepLabV3+ with ResNet-101 on Cityscapes in K=4 local modules. The last module is the
# decode head alone. Predicted for 2 images of 512x1024, float32: 10.37 GiB end-to-end,
# 3.51 GiB so (34%), +2.0% FLOPs. Not yet trained here.
# Splits from
#   python tools/plan.py mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb2-40k_cityscapes-512x1024.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb2-40k_cityscapes-512x1024.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(splits=['layer3.4', 'layer3.17', 'layer4.2']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
