# The baseline of infopro_deeplabv3_mobilenet-v2_camvid.py; results in results/camvid.md.
_base_ = './infopro_deeplabv3_mobilenet-v2_camvid.py'
model = dict(local=dict(splits=[]))
