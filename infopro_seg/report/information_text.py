"""The tables of probes, from the numbers that were computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import markdown_table

Entry = Mapping[str, Any]


def information_table(entries: Sequence[Entry]) -> str:
    """Scores of the probes of all networks, and of the constant predictor."""
    header = (
        *('network', 'unit', 'I(h, y) >= (bits/pixel)', 'probe mIoU (%)'),
        *('cross-entropy (bits/pixel)', 'I(h, x) >= (bits/pixel, under the model)'),
        *('BCE (nats/value)', 'MSE'),
    )
    rows = []
    for entry in entries:
        rows.append((entry['name'], 'constant predictor', *_cells(entry['constant'])))
        rows += [
            (entry['name'], boundary['unit'], *_cells(boundary))
            for boundary in entry['boundaries']
        ]
    return markdown_table(header, rows, left=2)


def gradient_table(entries: Sequence[Entry]) -> str:
    """Agreement of the local gradients of all networks with end-to-end ones."""
    header = (
        *('network', 'module', 'last unit', 'loss'),
        *('cosine', 'std', 'norm ratio', 'std'),
    )
    rows = [
        (
            *(entry['name'], row['module'], row['unit'], row['loss']),
            *_mean_and_deviation(row['cosine']),
            *_mean_and_deviation(row['norm_ratio']),
        )
        for entry in entries
        for row in entry['modules']
    ]
    return markdown_table(header, rows, left=4)


def _cells(scores: Mapping[str, float]) -> tuple[str, ...]:
    return (
        f'{scores.get("label_information_bits", 0):.3f}',
        f'{scores["miou"]:.2f}',
        f'{scores["cross_entropy_bits"]:.3f}',
        f'{scores.get("image_information_bits", 0):.3f}',
        f'{scores["reconstruction_bce"]:.4f}',
        f'{scores["reconstruction_mse"]:.5f}',
    )


def _mean_and_deviation(value: Mapping[str, float | None]) -> tuple[str, str]:
    deviation = value['deviation']
    return f'{value["mean"]:.3f}', '' if deviation is None else f'{deviation:.3f}'
