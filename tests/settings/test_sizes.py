import pytest

from infopro_seg.settings.sizes import gib, parse_bytes


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('11GiB', 11 * 2**30),
        ('11 gib', 11 * 2**30),
        ('8 GB', 8 * 10**9),
        ('1.5GiB', 3 * 2**29),
        ('512MiB', 2**29),
        ('12e9', 12 * 10**9),
        (12e9, 12 * 10**9),
        (2**20, 2**20),
        ('1024B', 1024),
        ('100 B', 100),
    ],
)
def test_amounts_of_memory_are_read(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize('text', ['11 gigs', 'GiB', '', '1..5GiB', '11GiBs', '-3GiB'])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="gpu_memory=.*such as '11GiB'"):
        parse_bytes(text)


@pytest.mark.parametrize('value', ['11', 11, 11.5, '24'])
def test_a_number_that_can_only_be_gib_asks_for_its_unit(value):
    with pytest.raises(ValueError, match=f"write a unit, such as '{value}GiB'"):
        parse_bytes(value, '--gpu-memory')


@pytest.mark.parametrize('value', [0, 0.5, '0GiB', float('inf'), float('nan'), -1])
def test_less_than_a_byte_is_refused(value):
    with pytest.raises(ValueError, match='gpu_memory='):
        parse_bytes(value)


@pytest.mark.parametrize('value', [None, True, ['11GiB']])
def test_other_kinds_are_refused(value):
    with pytest.raises(TypeError, match='--reserve=.*must be text'):
        parse_bytes(value, '--reserve')


def test_bytes_as_text():
    assert gib(3 * 2**29) == '1.50 GiB'
