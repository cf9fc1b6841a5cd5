# python tools/train.py configs/infopro_segformer_mit-b2_cityscapes.py
# on 8 GPUs: tools/dist_train.sh configs/infopro_segformer_mit-b2_cityscapes.py 8
#
# SegFormer-B2 on Cityscapes in K=4 local modules. Predicted for 1 image of 1024x1024,
# float32: 5.15 GiB end-to-end, 1.79 GiB so (35%), +6.3% FLOPs. Not yet trained here.
# Splits from
#   python tools/plan.py mmseg::segformer/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::segformer/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(splits=['layers.0.1.1', 'layers.1.1.1', 'layers.2.1.3']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
