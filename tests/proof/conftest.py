"""The network of a proof at toy size."""

import pytest

from tests.planner.networks import tiny


@pytest.fixture
def config(tmp_path):
    model = {**tiny(), 'type': 'EncoderDecoder'}
    del model['local']
    path = tmp_path / 'tiny.py'
    path.write_text(
        "default_scope = 'mmseg'\n"
        f'model = {model!r}\n'
        'train_dataloader = dict(batch_size=2)\ncrop_size = (64, 96)\n'
    )
    return str(path)
