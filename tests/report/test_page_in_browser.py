"""The page in Chromium: nothing sticks out, is fetched or complained of."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import pytest

from infopro_seg.report.run import NetworkModule, Samples

from .run_folders import write_run
from .test_page import NETWORK, PLAN, page_of, picture_row, read

BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))),
    None,
)
WIDTHS = (390, 1280)
# Frames of the page in the widths of a phone and of a desktop, and what is measured.
HARNESS = """<!doctype html><title>none</title>
{frames}
<script>
addEventListener('load', () => {{
  console.error('a probe');
  document.title = JSON.stringify([...document.querySelectorAll('iframe')].map(f => ({{
    width: f.contentWindow.innerWidth,
    needed: f.contentDocument.documentElement.scrollWidth,
    fetched: f.contentWindow.performance.getEntriesByType('resource').length,
    wide: [...f.contentDocument.querySelectorAll('body *')].filter(
      e => e.getBoundingClientRect().right > f.contentWindow.innerWidth
        && !e.closest('.scroll, svg, pre')
    ).map(e => e.outerHTML.slice(0, 80)).slice(0, 3),
    narrowest: Math.min(...[...f.contentDocument.querySelectorAll('th')].map(
      cell => cell.textContent ? cell.offsetWidth : Infinity)),
    columns: getComputedStyle(f.contentDocument.querySelector('.charts'))
      .gridTemplateColumns.split(' ').length,
    pictures: [...f.contentDocument.images].every(image => image.naturalWidth > 0),
    background: getComputedStyle(f.contentDocument.body).backgroundColor,
  }})));
}});
</script>"""


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """Two runs with long names, many units, all that a page can have."""
    folder = tmp_path_factory.mktemp('runs')
    long = 'a_work_dir_with_quite_a_long_name_' * 3
    runs = [read(write_run(folder / str(i)), f'{long}{i}') for i in range(2)]
    units = tuple(f'stages.{i}.blocks.{j}' for i in range(4) for j in range(12))
    modules = [
        NetworkModule(f'local_{i}', units, dict(zip(units, units, strict=True)))
        for i in range(10)
    ]
    for run in runs:
        run.plan = PLAN
        run.network = dataclasses.replace(NETWORK, modules=tuple(modules))
        classes = [('a class of things', (0, 0, 0)), ('another', (7, 7, 7))]
        run.samples = Samples([picture_row()], classes, 'iter_20.pth')
        run.text.command = 'python tools/train.py ' + 'configs/' * 40
        run.config = 'x = "' + 'y' * 2000 + '"'
    return page_of(*runs).replace('<details>', '<details open>')


def shown(page, folder, *, is_dark):
    """What Chromium measures in each frame, and what it has to say."""
    frames = ''.join(
        f'<iframe width="{w}" height="800" style="border: 0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
        for w in WIDTHS
    )
    harness = folder / 'harness.html'
    harness.write_text(HARNESS.format(frames=frames))
    run = subprocess.run(
        [
            BROWSER,
            *('--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars'),
            *('--window-size=1400,900', '--enable-logging=stderr', '--dump-dom'),
            f'--blink-settings=preferredColorScheme={0 if is_dark else 1}',
            f'--user-data-dir={folder}/profile',
            harness.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    title = re.search(r'<title>(.*?)</title>', run.stdout, flags=re.DOTALL)[1]
    said = [line for line in run.stderr.splitlines() if 'CONSOLE' in line]
    return json.loads(html.unescape(title)), said


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='needs chromium')
def test_the_page_fits_phones_and_desktops_in_light_and_dark(page, tmp_path):
    backgrounds = []
    for is_dark in (False, True):
        frames, said = shown(page, tmp_path, is_dark=is_dark)
        assert [frame['width'] for frame in frames] == list(WIDTHS)
        for frame in frames:
            assert frame['needed'] <= frame['width'], frame
            assert frame['narrowest'] > 50
            assert frame['fetched'] == 0
            assert frame['pictures']
        assert [frame['columns'] for frame in frames] == [1, 3]
        assert len(said) == 1, said
        assert 'a probe' in said[0]
        backgrounds.append(frames[0]['background'])
    assert backgrounds[0] != backgrounds[1]
