"""What only the text log of a run says: progress, warnings, versions, the command."""

import dataclasses
import datetime
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_RECORD = re.compile(r'(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - \S+ - ([A-Z]+) - (.*)')
_TIME_FORMAT = '%Y/%m/%d %H:%M:%S'
_ITERATION = re.compile(r'Iter\(train\)\s*\[\s*(\d+)/(\d+)\]')
_EPOCH = re.compile(r'Epoch\(train\)\s*\[\s*(\d+)\]\[\s*(\d+)/(\d+)\]')
_ETA = re.compile(r'\beta: (.+?)\s{2}')
_CHECKPOINT = re.compile(r'Saving checkpoint at (\d+) iterations')
_CLASS_HEADER = re.compile(r'\|\s*Class\s*\|\s*IoU\s*\|')
_CLASS_ROW = re.compile(r'\|\s*(.+?)\s*\|\s*([\d.]+|nan)\s*\|')
_VERSION = re.compile(
    r'\s+(Python|PyTorch|TorchVision|OpenCV|MMEngine|CUDA available|GPU [\d,]+): (.+)'
)
_COMMAND = re.compile(r'infopro_seg (\S+), command: (.+)', re.DOTALL)
_LEVELS = ('WARNING', 'ERROR', 'CRITICAL')


class Message(NamedTuple):
    """A warning or an error of the log.

    Args:
        level: ``WARNING``, ``ERROR`` or ``CRITICAL``.
        text: Its first line.
        num_times: How often it was logged.
    """

    level: str
    text: str
    num_times: int


@dataclasses.dataclass
class TextLog:
    """The text logs of all attempts of a run, in order.

    Args:
        starts: When each attempt began.
        last_line: Time of the last line, by the clock of the machine that trained.
        longest_gap: Longest time between two lines of an attempt.
        iteration: The last iteration that the log says is done.
        max_iterations: How many there are to be; None if not known yet.
        epoch_length: Iterations an epoch, if it is trained by epochs.
        eta: Time left as the host printed it last.
        class_iou: IoU by class in percent, of the last table.
        versions: Versions and devices, under the names of the log.
        command: The command line of the last attempt that logged one.
        messages: Warnings and errors, each once.
    """

    starts: list[datetime.datetime] = dataclasses.field(default_factory=list)
    last_line: datetime.datetime | None = None
    longest_gap: datetime.timedelta = datetime.timedelta()
    iteration: int = 0
    max_iterations: int | None = None
    epoch_length: int | None = None
    eta: str = ''
    class_iou: dict[str, float] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    command: str = ''
    messages: list[Message] = dataclasses.field(default_factory=list)


def read_text_log(folder: str | Path) -> TextLog:
    """Read the text logs in a work dir; an empty `TextLog` if there are none.

    Logs of tests, which tools/test.py leaves in the same folder, are passed over.

    Args:
        folder: Work dir of a run.
    """
    log = TextLog()
    counts: dict[tuple[str, str], int] = {}
    for file in sorted(Path(folder).glob('*/*.log')):
        text = file.read_text(encoding='utf-8', errors='replace')
        if 'Iter(test)' in text or 'Epoch(test)' in text:
            continue
        before = None
        for time, level, said in _records(text.splitlines()):
            if before is None:
                log.starts.append(time)
            else:
                log.longest_gap = max(log.longest_gap, time - before)
            before = log.last_line = time
            if level in _LEVELS:
                key = level, said.partition('\n')[0].strip()
                counts[key] = counts.get(key, 0) + 1
            else:
                _note(log, said)
    log.messages = [Message(*key, count) for key, count in counts.items()]
    return log


def _records(lines: Iterable[str]) -> Iterator[tuple[datetime.datetime, str, str]]:
    """(time, level, text) of every record; further lines belong to the one before."""
    time, level, said = None, '', ['']
    for line in lines:
        match = _RECORD.match(line)
        if match is None:
            said.append(line)
            continue
        if time is not None:
            yield time, level, '\n'.join(said)
        time, level, said = _time(match[1]), match[2], [match[3]]
    if time is not None:
        yield time, level, '\n'.join(said)


def _time(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(text, _TIME_FORMAT)
    except ValueError:  # a damaged line
        return None


def _note(log: TextLog, said: str) -> None:
    """Take in what an ordinary record says."""
    if said.startswith(('Iter(train)', 'Epoch(train)')):
        eta = _ETA.search(said)
        log.eta = eta[1] if eta else ''
    if match := _ITERATION.match(said):
        log.iteration, log.max_iterations = int(match[1]), int(match[2])
    elif match := _EPOCH.match(said):
        epoch, step, log.epoch_length = map(int, match.groups())
        log.iteration = (epoch - 1) * log.epoch_length + step
    elif match := _CHECKPOINT.match(said):
        log.iteration = int(match[1])
    elif match := _COMMAND.match(said):
        log.versions['infopro_seg'], log.command = match[1], match[2].strip()
    elif _CLASS_HEADER.search(said):
        rows = map(_CLASS_ROW.match, said.splitlines())
        log.class_iou = {row[1]: float(row[2]) for row in rows if row}
    elif 'System environment:' in said:
        matches = map(_VERSION.match, said.splitlines())
        log.versions.update({m[1]: m[2].strip() for m in matches if m})
