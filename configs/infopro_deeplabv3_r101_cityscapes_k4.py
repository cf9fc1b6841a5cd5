# K=4 with lean heads, cut where the largest module is smallest. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(local=dict(splits=['layer3.1', 'layer3.11', 'layer3.21'], head=dict(preset='lean')))
