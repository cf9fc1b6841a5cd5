"""What README and docs point at is there: files, sections, tools, options, messages."""

import ast
import re

import pytest
from mmseg.registry import VISBACKENDS

from infopro_seg.settings.config import read_config
from infopro_seg_command import COMMANDS
from tests.docs.pages import NAMES, PAGES, ROOT, read_blocks
from tests.helpers import deeplabv3  # noqa: F401  registers mmseg's modules


def text_of(name):
    page = next(page for page in PAGES if str(page).endswith(f'/{name}'))
    return page, page.read_text(encoding='utf-8')


def anchors(text):
    """Of all headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', text, flags=re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in headings}


def shell_blocks(text):
    return [b.text for b in read_blocks('', text) if b.language in ('', 'bash')]


def commands(text):
    """Commands of the tools here, each with continuation lines joined."""
    fenced = '\n'.join(shell_blocks(text))
    inline = '\n'.join(re.findall(r'`([^`]+)`', text))
    lines = (fenced + '\n' + inline).replace('\\\n', ' ').splitlines()
    for line in lines:
        match = re.search(r'tools/((?:analysis/)?\w+)\.(?:py|sh)(.*)', line)
        if match:
            yield match[1], match[2].partition('#')[0]


def sources_of(tool):
    """The command line of a tool, and what all tools share."""
    command = tool.rpartition('/')[-1]
    command = command.removeprefix('dist_').removeprefix('slurm_')
    paths = [ROOT / 'infopro_seg/cli' / f'{n}.py' for n in (command, 'config', 'run')]
    return '\n'.join(path.read_text() for path in paths)


@pytest.mark.parametrize('name', NAMES)
def test_links_lead_somewhere(name):
    page, text = text_of(name)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' in target:
            continue
        file, _, anchor = target.partition('#')
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), target


@pytest.mark.parametrize('name', NAMES)
def test_tools_and_their_options_exist(name):
    _, text = text_of(name)
    for tool, arguments in commands(text):
        exists = [(ROOT / 'tools' / f'{tool}{end}').exists() for end in ('.py', '.sh')]
        assert any(exists), tool
        for option in re.findall(r'(?<!\S)--[a-z][\w-]*', arguments):
            assert f"'{option}'" in sources_of(tool) or option == '--help', (
                tool,
                option,
            )


@pytest.mark.parametrize('name', NAMES)
def test_what_is_typed_without_a_checkout_exists(name):
    _, text = text_of(name)
    typed = re.findall(r'(?:infopro-seg|infopro_seg\.cli) ([a-z][\w-]*)([^`\n]*)', text)
    for command, arguments in typed:
        assert command in COMMANDS, command
        for option in re.findall(r'(?<!\S)--[a-z][\w-]*', arguments):
            assert f"'{option}'" in sources_of(COMMANDS[command]), option
    for config in re.findall(r'infopro_seg::([\w./-]+\.\w+)', text):
        assert (ROOT / 'configs' / config).exists(), config


@pytest.mark.parametrize('name', NAMES)
def test_configs_and_tests_exist(name):
    _, text = text_of(name)
    for path in re.findall(r'\b(?:configs|tests|results|tools)/[\w./-]+\w', text):
        assert (ROOT / path).exists(), path
    for config in sorted(set(re.findall(r'mmseg::[\w./-]+\.py', text)))[:3]:
        assert read_config(config).model


@pytest.mark.parametrize('name', NAMES)
def test_files_of_the_code_exist(name):
    _, text = text_of(name)
    files = [f'/{path.name}' for path in ROOT.glob('*.py')]
    files += [
        f'/{path.relative_to(ROOT)}'
        for folder in ('infopro_seg', 'configs', 'tests', 'tools')
        for path in (ROOT / folder).rglob('*.py')
    ]
    for path in re.findall(r'`(?!my_|tools/\*)([a-z][\w./-]*\.py)`', text):
        assert any(file.endswith(f'/{path}') for file in files), path


@pytest.mark.parametrize('name', NAMES)
def test_a_plan_is_trained_with_the_batch_it_was_made_for(name):
    # The config's own batch may be larger, and is then refused.
    _, text = text_of(name)
    for block in shell_blocks(text):
        if 'plan=plan.json' in block:
            for size in re.findall(r'--batch-size (\d+)', block):
                assert f'--cfg-options total_batch_size={size}' in block


def test_every_page_is_in_the_index_once():
    _, index = text_of('docs/README.md')
    listed = re.findall(r'^\| \[([\w-]+\.md)\]\(\1\) \|', index, re.MULTILINE)
    pages = {page.name for page in PAGES if page.parent == ROOT / 'docs'}
    assert sorted(listed) == sorted(pages - {'README.md'})
    _, readme = text_of('README.md')
    assert '(docs/README.md)' in readme


def strings():
    """All texts in the code of the package; what is put into them is a blank."""
    for path in (ROOT / 'infopro_seg').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield ''.join(
                    part.value if isinstance(part, ast.Constant) else '\0'
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_of_the_page_on_troubles_are_those_of_the_code():
    _, text = text_of('troubleshooting.md')
    ours = text.partition('| of mmseg, mmengine and torch |')[0]
    messages = re.findall(r'^\| `([^`]+)` ', ours, flags=re.MULTILINE)
    assert len(messages) > 20
    said = list(strings())
    for message in messages:
        parts = [re.escape(part.strip()) for part in message.split('...')]
        pattern = re.compile('.*'.join(parts), flags=re.DOTALL)
        assert any(pattern.search(string) for string in said), message


def test_the_places_to_log_to_are_registered():
    _, text = text_of('troubleshooting.md')
    kinds = re.findall(r"type='(\w+VisBackend)'", text)
    assert len(kinds) == 3
    with VISBACKENDS.switch_scope_and_registry('mmseg') as registry:
        assert all(registry.get(kind) for kind in kinds)
