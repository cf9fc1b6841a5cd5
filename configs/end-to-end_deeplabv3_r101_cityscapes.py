# The baseline: no wall, the stock model. Paper: 79.12 mIoU, 19.43 GB. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(local=dict(splits=[]))
