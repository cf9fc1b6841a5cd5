# The network and the data of streets_r18.yaml: DeepLabV3 with ResNet-18 from scratch on
# drawn streets of 128x256.
_base_ = '../infopro_deeplabv3_r18_streets.py'
model = dict(local=dict(splits=[]))
# Runs side by side on the cores of one machine load their data themselves.
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
