"""Work dirs as tools/train.py leaves them, without training."""

import datetime
import json

START = datetime.datetime(2026, 1, 2, 3, 0, 0)
SOON = START + datetime.timedelta(seconds=60)

ENVIRONMENT = """System environment:
    sys.platform: linux
    Python: 3.11.7 (main)
    CUDA available: False
    PyTorch: 2.14.1+cu130
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3
    MMEngine: 0.10.12
"""
TABLE = """
+-------+-------+-------+
| Class |  IoU  |  Acc  |
+-------+-------+-------+
|  road | 61.25 | 80.0  |
|  car  |  nan  |  nan  |
+-------+-------+-------+"""


def losses(iteration, scale=1.0):
    """What is logged of a training step of three modules."""
    return {
        'lr': 0.01,
        'data_time': 0.125,
        'loss': 4.0 * scale,
        'local_0.loss_recon': 0.75 * scale,
        'local_0.loss_seg': 1.5 * scale,
        'local_1.loss_recon': 0.625 * scale,
        'local_1.loss_seg': 1.25 * scale,
        'decode.loss_ce': 1.125 * scale,
        'time': 0.5,
        'iter': iteration,
        'step': iteration,
    }


def scores(iteration, miou):
    """What is logged of a validation."""
    return {'mIoU': miou, 'aAcc': 80.0, 'time': 0.0625, 'step': iteration}


def line(text, seconds=0, level='INFO', start=START):
    """A record of the text log, so many seconds after the start."""
    time = start + datetime.timedelta(seconds=seconds)
    return f'{time:%Y/%m/%d %H:%M:%S} - mmengine - {level} - {text}'


def step_line(iteration, most, seconds, start=START):
    """What the host writes of a training step."""
    text = (
        f'Iter(train) [{iteration:3}/{most}]  lr: 1.0e-02  eta: 1 day, 0:00:{most:02}'
    )
    return line(f'{text}  time: 0.5000  loss: 4.0', seconds, start=start)


def write_attempt(folder, name, lines, entries, tail=''):
    """Write the logs of one attempt of a run."""
    attempt = folder / name
    (attempt / 'vis_data').mkdir(parents=True)
    (attempt / f'{name}.log').write_text('\n'.join(lines) + '\n')
    if entries:
        text = '\n'.join(map(json.dumps, entries))
        (attempt / 'vis_data' / 'scalars.json').write_text(text + tail)


def write_run(folder, *, most=20, done=20, scale=1.0, miou=43.21, config=None):
    """Write a run that is done with ``done`` of ``most`` iterations."""
    every = range(5, done + 1, 5)
    lines = [line(ENVIRONMENT), *(step_line(i, most, i) for i in every)]
    entries = [losses(i, scale * 10 / (5 + i)) for i in every]
    if done == most:
        entries.append(scores(done, miou))
        lines += [line('per class results:', done), line(TABLE, done)]
    write_attempt(folder, '20260102_030000', lines, entries)
    if config is not None:
        (folder / 'config.py').write_text(config)
    return folder
