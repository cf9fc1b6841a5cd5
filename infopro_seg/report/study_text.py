"""The tables of a study, from the entries that were computed of its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import markdown_table

Entry = Mapping[str, Any]


def score_table(entries: Sequence[Entry], baseline: str) -> str:
    """Scores, paired differences and costs of all methods, as Markdown.

    FLOPs are those of all training steps, as a share of the baseline's.
    """
    differ = len({entry['iterations'] for entry in entries}) > 1
    header = (
        *(
            'method',
            *(['iterations'] if differ else []),
            'seeds',
            'mIoU',
            'std',
            f'against {baseline}',
            '95% interval',
        ),
        *(f'FLOPs of {baseline}', 'predicted memory (MiB)'),
    )
    whole = [e['training_flops'] for e in entries if e['name'] == baseline]
    rows = [
        (
            entry['name'],
            *([str(entry['iterations'])] if differ else []),
            str(len(entry['seeds'])),
            f'{entry["miou"]["mean"]:.2f}',
            _number(entry['miou']['deviation'], '.2f'),
            *_difference(entry['difference']),
            _share(entry['training_flops'], *whole),
            _size(entry['predicted_peak_bytes']),
        )
        for entry in entries
    ]
    return markdown_table(header, rows)


def class_table(entries: Sequence[Entry]) -> str:
    """The IoU of every class, a mean over seeds; one column a method."""
    classes = list(dict.fromkeys(name for e in entries for name in e['class_iou']))
    rows = [
        (name, *(_class_score(entry['class_iou'].get(name)) for entry in entries))
        for name in classes
    ]
    return markdown_table(('class', *(entry['name'] for entry in entries)), rows)


def _difference(difference: Mapping[str, Any] | None) -> tuple[str, str]:
    if difference is None:
        return '', ''
    interval = ''
    if difference['low'] is not None:
        interval = f'{difference["low"]:+.2f} to {difference["high"]:+.2f}'
    return f'{difference["mean"]:+.2f}', interval


def _class_score(score: Mapping[str, float] | None) -> str:
    return '' if score is None else f'{score["mean"]:.1f}'


def _number(value: float | None, form: str) -> str:
    return '' if value is None else format(value, form)


def _share(part: int | None, whole: int | None = None) -> str:
    return f'{part / whole:.0%}' if part and whole else ''


def _size(num_bytes: int | None) -> str:
    return '' if num_bytes is None else f'{num_bytes / 2**20:.0f}'
