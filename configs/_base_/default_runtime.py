default_scope = 'mmseg'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
custom_hooks = [
    dict(type='LocalBackwardHook'), dict(type='CheckLabelsHook'),
    dict(type='DataGuardHook'), dict(type='CheckWeightsHook'),
    # Off: --cfg-options custom_hooks.4.interval=0
    dict(type='LocalModuleMonitorHook', interval=50)
]
# Early backward passes in distributed training need it; LocalBackwardHook checks.
find_unused_parameters = True
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
tta_model = dict(type='SegTTAModel')
