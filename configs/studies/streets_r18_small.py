# The network of streets_r18.yaml with half its channels.
_base_ = './streets_r18.py'
model = dict(
    backbone=dict(base_channels=16),
    decode_head=dict(in_channels=128, channels=32),
    auxiliary_head=dict(in_channels=64, channels=16))
