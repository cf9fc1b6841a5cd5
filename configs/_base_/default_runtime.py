default_scope = 'mmseg'
custom_imports = dict(imports=['infopro_seg'], allow_failed_imports=False)
# Registers what a run of local modules needs; 0 switches the monitor off:
# --cfg-options custom_hooks.0.monitor_interval=0
custom_hooks = [dict(type='LocalTrainingHook', monitor_interval=50)]
# Early backward passes in distributed training need it; it is checked.
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
