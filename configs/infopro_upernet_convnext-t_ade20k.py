# python tools/train.py configs/infopro_upernet_convnext-t_ade20k.py
# on 8 GPUs: tools/dist_train.sh configs/infopro_upernet_convnext-t_ade20k.py 8
#
# UPerNet with ConvNeXt-T on ADE20K in K=4 local modules. Predicted for 2 images of
# 512x512, float16: 2.98 GiB end-to-end, 1.48 GiB so (50%), +0.8% FLOPs. (Losses
# are taken in chunks: no maps of 150 classes at image resolution.) Needs mmpretrain
# ("pip install onedl-mmpretrain"); built, planned and stepped twice with its version
# 1.3.6. Not yet trained here.
# Splits from
#   python tools/plan.py mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py'
custom_imports = dict(imports=['mmpretrain.models', 'infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(
        splits=['downsample_layers.1', 'downsample_layers.2', 'downsample_layers.3']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
