# python tools/train.py configs/infopro_ocrnet_hr48_cityscapes.py
# on 4 GPUs: tools/dist_train.sh configs/infopro_ocrnet_hr48_cityscapes.py 4
#
# OCRNet with HRNet-W48 on Cityscapes in K=4 local modules. The last module is the
# cascade of decode heads alone. Predicted for 2 images of 512x1024, float32: 7.53 GiB
# end-to-end, 3.66 GiB so (49%), +2.6% FLOPs. Not yet trained here.
# Splits from
#   python tools/plan.py mmseg::ocrnet/ocrnet_hr48_4xb2-40k_cityscapes-512x1024.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::ocrnet/ocrnet_hr48_4xb2-40k_cityscapes-512x1024.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProCascadeEncoderDecoder',
    local=dict(splits=['stage2.0', 'stage3.3', 'stage4.2']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
