# Square, odd crops. Weights and learning rate of 512x1024. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
crop_size = (769, 769)
model = dict(data_preprocessor=dict(size=crop_size))
train_pipeline = {{_base_.train_pipeline}}
train_pipeline[3]['crop_size'] = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
