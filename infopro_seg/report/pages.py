"""Writes the generated parts of pages, between marks; the rest is written by hand."""

from collections.abc import Mapping
from pathlib import Path

from ..checkpoints.files import write_whole


def fill_page(path: str | Path, parts: Mapping[str, str], title: str) -> None:
    """Write parts into a page; everything outside their marks is kept.

    Args:
        path: The page; it is created if it does not exist.
        parts: Markdown by the name in the marks ``<!-- NAME: begin -->`` and
            ``<!-- NAME: end -->``. A part that has no marks yet is added at the end.
        title: Heading of a new page.

    Raises:
        ValueError: if a part has only one of its marks, or if they are out of order.
    """
    path = Path(path)
    page = path.read_text(encoding='utf-8') if path.exists() else f'# {title}\n'
    for name, text in parts.items():
        page = _filled(page, name, text.strip(), path)
    write_whole(page.encode(), path)


def _filled(page: str, name: str, text: str, path: Path) -> str:
    begin, end = f'<!-- {name}: begin -->', f'<!-- {name}: end -->'
    if begin not in page and end not in page:
        return f'{page.rstrip()}\n\n{begin}\n{text}\n{end}\n'
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f'{path} must have {begin} and, after it, {end}.')
    return f'{before}{begin}\n{text}\n{end}{after}'
