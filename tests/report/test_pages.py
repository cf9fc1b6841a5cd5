"""Parts of a page are written by tools, the rest by hand."""

import os

import pytest

from infopro_seg.report.pages import fill_page


def test_a_part_is_replaced_and_the_text_around_it_kept(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        '# By hand\n\n<!-- a: begin -->\nold\n<!-- a: end -->\nbetween\n'
        '<!-- b: begin --><!-- b: end -->\nend\n'
    )
    fill_page(page, {'a': 'one\n', 'b': 'two'}, 'unused')
    assert page.read_text() == (
        '# By hand\n\n<!-- a: begin -->\none\n<!-- a: end -->\nbetween\n'
        '<!-- b: begin -->\ntwo\n<!-- b: end -->\nend\n'
    )
    before = page.read_text()
    fill_page(page, {'b': 'two', 'a': 'one'}, 'unused')
    assert page.read_text() == before


def test_a_page_is_made_where_there_is_none(tmp_path):
    page = tmp_path / 'page.md'
    fill_page(page, {'a': 'one'}, 'Title')
    assert page.read_text() == ('# Title\n\n<!-- a: begin -->\none\n<!-- a: end -->\n')


@pytest.mark.parametrize(
    'text', ['<!-- a: begin -->', '<!-- a: end -->', '<!-- a: end --><!-- a: begin -->']
)
def test_a_missing_mark_is_told_and_nothing_written(tmp_path, text):
    page = tmp_path / 'page.md'
    page.write_text(text)
    with pytest.raises(ValueError, match=r'page.md must have <!-- a: begin --> and'):
        fill_page(page, {'a': 'one'}, 'Title')
    assert page.read_text() == text


def test_a_full_disk_leaves_the_page_as_it_was(tmp_path, monkeypatch):
    page = tmp_path / 'page.md'
    page.write_text('# By hand\n')

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        fill_page(page, {'a': 'one'}, 'Title')
    assert page.read_text() == '# By hand\n'
