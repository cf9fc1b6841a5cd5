"""A hook that refuses a checkpoint of another network than the config's."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmseg.registry import HOOKS

from ..checkpoint import LOCAL_PREFIX


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Stop if the weights of a checkpoint do not fit the model.

    The host only logs it and goes on with random weights in their place. Shapes must
    fit always (a head for another number of classes does not); nothing but local heads
    may be missing for a test or to resume, while training may start from a part.

    Args:
        drop: Prefixes of weights to leave out, such as ``decode_head.conv_seg`` to
            train on from a checkpoint with other classes.
    """

    def __init__(self, drop: tuple[str, ...] | list[str] = ()) -> None:
        self._drop = tuple(drop)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare; weights to drop are deleted from the checkpoint.

        Raises:
            ValueError: if the weights do not fit; names some, with both shapes.
        """
        model = runner.model
        # Test-time augmentation is a wrapper that mmengine does not list as one.
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        state_dict = checkpoint.get('state_dict', checkpoint)
        for name in [n for n in state_dict if self._drop and n.startswith(self._drop)]:
            del state_dict[name]
        given = {n.removeprefix('module.'): v.shape for n, v in state_dict.items()}
        own = {name: value.shape for name, value in model.state_dict().items()}
        problems = [
            f'{name} is {tuple(given[name])} in the checkpoint and {tuple(own[name])} '
            'in the model of the config'
            for name in own
            if name in given and given[name] != own[name]
        ]
        if runner._resume or not isinstance(runner._train_loop, BaseLoop):
            problems += [
                f'{name} is missing in the checkpoint'
                for name in own
                if name not in given and self._is_needed(name)
            ]
        if problems:
            more = f'; and {len(problems) - 3} more' if len(problems) > 3 else ''
            raise ValueError(
                f'checkpoint and config do not belong together: '
                f'{"; ".join(problems[:3])}{more}. The config has num_classes='
                f'{_num_classes(model)}. Pass the config of the checkpoint; to train '
                "on with other classes, set drop=['decode_head.conv_seg', ...] of "
                'CheckWeightsHook.'
            )

    def _is_needed(self, name: str) -> bool:
        return not name.startswith((LOCAL_PREFIX, *self._drop))


def _num_classes(model) -> int | None:
    # EncoderDecoder and cascades keep that of their (last) decode head.
    return getattr(model, 'num_classes', None)
