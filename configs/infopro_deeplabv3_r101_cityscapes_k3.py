# K=3 with lean heads, cut where the largest module is smallest. Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(local=dict(splits=['layer3.4', 'layer3.17'], head=dict(preset='lean')))
