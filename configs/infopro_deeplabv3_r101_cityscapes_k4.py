# K=4 with lean heads, cut by `tools/plan.py THIS --num-modules 4 --recompute never
# --batch-size 4`: predicted 5.08 GiB for 4 images a GPU, 16.39 end-to-end (31.0%). Not
# yet run here.
_base_ = './infopro_deeplabv3_r101_cityscapes.py'
model = dict(
    local=dict(splits=['layer3.2', 'layer3.12', 'layer3.22'], head=dict(preset='lean')))
