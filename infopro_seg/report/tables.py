"""Rows of text as tables, for terminals and for Markdown pages."""

from collections.abc import Sequence

from prettytable import PrettyTable, TableStyle


def text_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns without lines between them.

    Args:
        rows: The first one is the header.
        left: Number of columns aligned to the left; the others are aligned to the
            right.
    """
    table = _table(rows[0], rows[1:], left)
    table.border = False
    table.left_padding_width, table.right_padding_width = 0, 2
    return '\n'.join(line.rstrip() for line in table.get_string().splitlines())


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> str:
    """A table for a page; see `text_table`."""
    table = _table(header, rows, left)
    table.set_style(TableStyle.MARKDOWN)
    return table.get_string()


def narrow_markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a page without padding, for rows with long text.

    One long cell does not widen the others, and a changed row is one changed line.
    """
    lines = [f'| {" | ".join(row)} |' for row in (header, *rows)]
    lines.insert(1, '|---' * len(header) + '|')
    return '\n'.join(lines)


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int
) -> PrettyTable:
    table = PrettyTable()
    for i, column in enumerate(zip(header, *rows, strict=True)):
        table.add_column(column[0], list(column[1:]), align='l' if i < left else 'r')
    return table
