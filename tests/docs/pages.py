"""The pages of the project and the blocks of code in them."""

import dataclasses
import re
import shlex
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first fence."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f'{self.page}:{self.line}'


def read_blocks(name, text):
    """The fenced blocks of a page, in its order.

    Raises:
        ValueError: if the last one is not closed.
    """
    blocks, fence = [], None
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        found = re.match(r'\s*(```+|~~~+)\s*(\w*)', line)
        if fence is None and found:
            fence, language = found.groups()
            begin, inside = number, []
        elif found and found[1] == fence and not found[2]:
            code = textwrap.dedent(''.join(inside))
            blocks.append(Block(name, begin, language, code))
            fence = None
        elif fence is not None:
            inside.append(line)
    if fence is not None:
        raise ValueError(f'{name}:{begin}: the block is not closed')
    return blocks


def blocks_of(name, language=None):
    """The blocks of a page by its path, of one language or of all."""
    blocks = read_blocks(name, (ROOT / name).read_text(encoding='utf-8'))
    return [block for block in blocks if language in (None, block.language)]


def commands_of(text):
    """The commands of a shell block, split into words, without comments."""
    for line in text.replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command = []
        for word in [*lexer, '&&']:
            if word in ('&&', ';'):
                if command:
                    yield command
                command = []
            else:
                command.append(word)
