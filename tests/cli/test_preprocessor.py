"""A run has the data preprocessor that the stock Runner makes of the same settings.

The Runner copies a top-level one into the model last, when nobody changes the config
any more. A copy that is made earlier, or written to a file, hides what comes later.
"""

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from infopro_seg.cli.config import complete_test, enable_tta, load_config
from infopro_seg.planner.from_config import setting_of, setting_of_run
from infopro_seg.settings.config import (
    crop_size_of,
    model_config,
    read_config,
    type_name,
)
from infopro_seg.settings.localize import localize, write_localized
from infopro_seg.study.job import method_config
from infopro_seg.study.matrix import Row
from tests.cli.test_config import parse
from tests.helpers import deeplabv3

PLACES = {
    'top level': 'data_preprocessor = model.pop("data_preprocessor")\n',
    'model': '',
    'both': 'data_preprocessor = dict(type="SegDataPreProcessor", size=(32, 32))\n',
    'none': 'model.pop("data_preprocessor")\n',
}
REST = """
train_dataloader = dict(batch_size=2, sampler=dict(type='InfiniteSampler'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
tta_pipeline = []
test_dataloader = dict(dataset=dict(type='BaseSegDataset'))
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='IoUMetric')
"""
OPTIONS = [
    (),
    ('data_preprocessor.mean=[0,0,0]',),
    ('model.data_preprocessor.mean=[0,0,0]',),
    ('data_preprocessor.size=(96,64)', 'model.data_preprocessor.std=[1,1,1]'),
    ('data_preprocessor.type=SegDataPreProcessor', 'data_preprocessor.size=(96,64)'),
]
#: What `infopro_seg` may have made of a config before it is trained.
EARLIER = ['nothing', 'localize', 'work dir', 'work dir, inherited']


class Built(Exception):  # noqa: N818  no error
    """Carries what the Runner builds."""


class Stopped(Runner):
    """Stops where the model is built."""

    def build_model(self, model):
        raise Built(model)


def built(cfg, tmp_path):
    """The model that a Runner builds from a config."""
    cfg.work_dir = str(tmp_path / 'work')
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Built) as caught:
        patch.setattr(Config, 'pretty_text', '')  # for the log; it takes a second
        Stopped.from_cfg(cfg)
    return caught.value.args[0]


def flagged(options):
    return ['--cfg-options', *options] if options else []


def stock(path, options, tmp_path):
    """The preprocessor of ``mmseg/tools/train.py CONFIG --cfg-options ...``."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(parse(path, *flagged(options)).cfg_options or {})
    return built(cfg, tmp_path).get('data_preprocessor')


@pytest.fixture(params=['text', 'pure'])
def config(request, tmp_path):
    """Writes a config with a preprocessor somewhere, in both forms of mmengine."""

    def write(place):
        path = tmp_path / 'stock.py'
        text = f"default_scope = 'mmseg'\nmodel = {deeplabv3()!r}\n"
        text += PLACES[place] + REST
        if request.param == 'pure':
            text = 'from mmseg.models import EncoderDecoder\n' + text
            text += "model['type'] = EncoderDecoder\n"
        path.write_text(text)
        return path

    return write


def made_of(path, earlier, tmp_path):
    """The config that is left for later, and the arguments that make it local."""
    out = tmp_path / 'later.py'
    if earlier == 'nothing':
        return path, ('--local', 'num_modules=2')
    if earlier == 'localize':
        cfg = read_config(path)
        settings = localize(cfg, {'num_modules': 2})
        write_localized(cfg, str(path), settings, out, force=False)
        return out, ()
    built_once = load_config(parse(path, '--local', 'num_modules=2'))
    built_once.dump(out)
    if earlier == 'work dir, inherited':
        child = tmp_path / 'child.py'
        child.write_text("_base_ = './later.py'\n")
        return child, ()
    return out, ()


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('earlier', EARLIER)
def test_the_last_setting_counts_as_in_the_host(
    config, place, options, earlier, tmp_path
):
    path = config(place)
    expected = stock(path, options, tmp_path)
    later, local = made_of(path, earlier, tmp_path)
    cfg = load_config(parse(later, *local, *flagged(options)))
    for model in (
        built(cfg, tmp_path),
        model_config(cfg),
        setting_of_run(cfg, crop_size=(64, 64)).model,
    ):
        assert type_name(model) == 'InfoProEncoderDecoder'
        assert model.get('data_preprocessor') == expected
    assert crop_size_of(cfg) == (expected or {}).get('size')
    complete_test(cfg)
    assert built(cfg, tmp_path).get('data_preprocessor') == expected


@pytest.mark.parametrize('place', PLACES)
def test_reading_adds_nothing(config, place):
    path = config(place)
    assert read_config(path).to_dict() == Config.fromfile(path).to_dict()


@pytest.mark.parametrize('place', PLACES)
def test_augmented_tests_have_the_hosts(config, place, tmp_path):
    path = config(place)
    expected = Config.fromfile(path)
    expected.model = {'type': 'mmseg.SegTTAModel', 'module': expected.model}
    expected = built(expected, tmp_path)
    cfg = load_config(parse(path))
    enable_tta(cfg, flip=True)
    assert built(cfg, tmp_path) == expected


@pytest.mark.parametrize('place', ['top level', 'model', 'both'])
def test_planner_and_study_have_that_of_the_run(config, place, tmp_path):
    path = config(place)
    expected = stock(path, (), tmp_path)
    setting = setting_of(str(path), local={'num_modules': 2})
    assert setting.model['data_preprocessor'] == expected
    where = 'model.' if place == 'model' else ''
    row = Row(
        name='row',
        config=str(path),
        local={'num_modules': 2},
        options={f'{where}data_preprocessor.size': (96, 64)},
        seeds=(0,),
        iterations=4,
        validation_interval=4,
    )
    options = [f'{where}data_preprocessor.size=(96,64)']
    expected = stock(path, options, tmp_path)
    assert method_config(row).model.data_preprocessor == expected
