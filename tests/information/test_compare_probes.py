"""Networks against each other by their probes, on the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from infopro_seg.cli.compare_probes import main

DIFFERENCES = np.array([0.1, 0.4, -0.2])
# Student's t with two degrees of freedom, 95%, two-sided, from printed tables.
QUANTILE = 4.303
UNITS = ('layer1.0', 'layer2.0')


def boundary(unit, bits):
    scores = ('miou', 'image_information_bits', 'reconstruction_bce')
    return {
        'unit': unit,
        'unit_number': 1 + UNITS.index(unit),
        'label_information_bits': bits,
        **dict.fromkeys(scores, 10 * bits),
    }


def write(folder, networks, *, seed=0, **settings):
    folder.mkdir(exist_ok=True)
    content = {
        'settings': {'iterations': 100, 'seed': seed, **settings},
        'methods': [
            {'name': name, 'boundaries': [boundary(*given) for given in boundaries]}
            for name, boundaries in networks.items()
        ],
    }
    (folder / 'information.json').write_text(json.dumps(content))


@pytest.fixture
def folders(tmp_path):
    """One for each seed, the last with its networks in another order."""
    for seed, difference in enumerate(DIFFERENCES):
        networks = {
            'base': [(unit, 1.0 + seed) for unit in UNITS],
            'greedy': [(UNITS[0], 1.0 + seed), (UNITS[1], 1.0 + seed + difference)],
        }
        if seed == 2:
            networks = dict(reversed(networks.items()))
        write(tmp_path / f'seed{seed}', networks, seed=seed)
    return [str(tmp_path / f'seed{seed}') for seed in range(3)]


def rows(printed):
    lines = [line for line in printed.splitlines() if line.startswith('| layer')]
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]


def test_differences_are_paired(folders, capsys):
    main(folders)
    found = rows(capsys.readouterr().out)
    assert [row[:2] for row in found] == [
        [unit, name] for unit in UNITS for name in ('base', 'greedy')
    ]
    assert found[0][2:4] == ['2.000', '']
    # The same in every folder: no interval, whatever the seeds have in common.
    assert found[1][3] == '+0.000 (+0.000 to +0.000)'
    mean = DIFFERENCES.mean()
    half = QUANTILE * DIFFERENCES.std(ddof=1) / np.sqrt(3)
    numbers = [float(x) for x in re.findall(r'[+-][\d.]+', found[3][3])]
    assert numbers == pytest.approx([mean, mean - half, mean + half], abs=0.0011)
    assert float(found[3][2]) == pytest.approx(2 + mean, abs=0.0006)


def test_two_folders_give_no_interval(folders, capsys):
    main([*folders[:2], '--baseline', 'greedy'])
    assert rows(capsys.readouterr().out)[2][3] == '-0.250'


def test_the_means_are_drawn(folders, tmp_path):
    picture = tmp_path / 'probes.png'
    main([*folders, '--picture', str(picture)])
    assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
    ('networks', 'settings', 'told'),
    [
        ({'base': [('layer1.0', 1.0)]}, {}, 'have other networks and units'),
        ({'base': []}, {'iterations': 300}, "settings, .*'iterations': 300"),
        ({}, {}, 'has no networks'),
        (
            {'base': [('layer1.0', 1.0)], 'greedy': [('layer2.0', 1.0)]},
            {},
            'their probes are at other units',
        ),
    ],
)
def test_what_does_not_belong_together_is_told(
    folders, tmp_path, networks, settings, told
):
    write(tmp_path / 'odd', networks, **settings)
    with pytest.raises(ValueError, match=told) as error:
        main([*folders, str(tmp_path / 'odd')])
    assert str(tmp_path / 'odd') in str(error.value)


def test_an_unknown_baseline_is_told(folders):
    with pytest.raises(ValueError, match="'bose' is no network .*: base, greedy"):
        main([*folders, '--baseline', 'bose'])


def test_a_folder_without_probes_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match='give a folder that tools/probe.py'):
        main([str(Path(tmp_path, 'nowhere'))])
