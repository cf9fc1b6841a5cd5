# python tools/train.py configs/infopro_upernet_vit-b_ade20k.py
# on 8 GPUs: tools/dist_train.sh configs/infopro_upernet_vit-b_ade20k.py 8
#
# UPerNet with ViT-B on ADE20K in K=4 local modules. The last module is neck and decode
# head alone. Predicted for 2 images of 512x512, float32: 6.33 GiB end-to-end, 3.27 GiB
# so (52%), +0.4% FLOPs. (Losses are taken in chunks: no maps of 150 classes at image
# resolution.) Not yet trained here.
# Splits from
#   python tools/plan.py mmseg::vit/vit_vit-b16_mln_upernet_8xb2-160k_ade20k-512x512.py \
#       --num-modules 4 --recompute never
_base_ = 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(splits=['layers.1', 'layers.5', 'layers.11']))
custom_hooks = [dict(type='LocalTrainingHook')]
train_dataloader = dict(sampler=dict(type='SeededSampler'))
find_unused_parameters = True
