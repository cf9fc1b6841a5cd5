# python tools/train.py configs/infopro_upernet_swin-t_ade20k.py
# on 8 GPUs: tools/dist_train.sh configs/infopro_upernet_swin-t_ade20k.py 8
#
# UPerNet with Swin-T on ADE20K in K=4 local modules. Predicted for 2 images of 512x512,
# float32: 3.86 GiB end-to-end, 1.86 GiB so (48%), +0.8% FLOPs. (Losses are taken in
# chunks: no maps of 150 classes at image resolution.) Not yet trained here.
# Splits from
#   python tools/plan.py mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(
        splits=['stages.0.downsample', 'stages.1.downsample', 'stages.2.blocks.5']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
