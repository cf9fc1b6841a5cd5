# How to make any mmseg config local: inherit from it, set the type, say where to cut,
# add the hook. Not yet run here.
_base_ = 'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
model = dict(
    type='InfoProEncoderDecoder',
    local=dict(num_modules=3, head=dict(preset='lean')))
custom_hooks = [dict(type='LocalTrainingHook')]
find_unused_parameters = True
