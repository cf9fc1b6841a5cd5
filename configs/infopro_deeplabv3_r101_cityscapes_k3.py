# K=3 with lean heads, cut by `tools/plan.py THIS --num-modules 3 --recompute never
# --batch-size 4`: predicted 6.48 GiB for 4 images a GPU, 16.39 end-to-end (39.5%).
# Not yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(local=dict(splits=['layer3.5', 'layer3.19'], head=dict(preset='lean')))
