"""The two zip files of the official Cityscapes download, checked and unpacked.

Which file is which is read from its contents, not from its name. A file counts as
unpacked if it has the size that the zip file gives; it is written under another name
first, so that an interrupted run leaves whole files only.
"""

import errno
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .cityscapes_labels import (
    ANNOTATION_SUFFIX,
    ANNOTATION_ZIP,
    DOWNLOADS,
    IMAGE_SUFFIX,
    IMAGE_ZIP,
    ZIP_OF,
    label_path,
)

_SUFFIX_OF = {'gtFine': ANNOTATION_SUFFIX, 'leftImg8bit': IMAGE_SUFFIX}
_LABEL_IDS_SUFFIX = '_gtFine_labelIds.png'
_BLOCK_BYTES = 4096  # what file systems give out at least, to each file
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Archive:
    """One zip file of the download.

    Args:
        path: The zip file.
        folder: What it unpacks to: ``gtFine`` or ``leftImg8bit``.
        members: Its files of the requested splits.
    """

    path: Path
    folder: str
    members: tuple[zipfile.ZipInfo, ...]


def find_archives(
    root: Path, given: Sequence[Path], splits: Sequence[str]
) -> list[Archive]:
    """Open the zip files that are given, and those that lie in a folder.

    Args:
        root: Folder of the data set; a zip file there counts if it has its official
            name and none of its kind is given.
        given: Zip files under any names.
        splits: ``train``, ``val``, ``test``; the members to unpack.

    Raises:
        FileNotFoundError: if a given file does not exist.
        ValueError: see `open_archive`; or if two given files are of one kind.
    """
    archives: dict[str, Archive] = {}
    for path in given:
        archive = open_archive(path, splits)
        if archive.folder in archives:
            raise ValueError(
                f'{archives[archive.folder].path} and {path} both hold '
                f'{archive.folder}/: give one of each, {ANNOTATION_ZIP} and {IMAGE_ZIP}'
            )
        archives[archive.folder] = archive
    for folder, name in ZIP_OF.items():
        if folder not in archives and (root / name).is_file():
            archive = open_archive(root / name, splits)
            if archive.folder != folder:
                raise ValueError(
                    f'{archive.path} holds {archive.folder}/ instead of {folder}/: '
                    f'download it again from {DOWNLOADS}'
                )
            archives[folder] = archive
    return list(archives.values())


def open_archive(path: Path, splits: Sequence[str]) -> Archive:
    """Read the directory of a zip file and check that it is of the download.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no whole zip file, of something else, lacks a split, or
            has a path that leaves the folder it is unpacked to.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no file {path}; download it from {DOWNLOADS}'
        )
    try:
        with zipfile.ZipFile(path) as file:
            members = [x for x in file.infolist() if not x.is_dir()]
    except zipfile.BadZipFile as error:
        raise ValueError(
            f'{path} is no whole zip file ({error}): its download stopped early, or '
            f'the site sent its login page; download it again from {DOWNLOADS}'
        ) from error
    for member in members:
        _check_inside(path, member.filename)
    folder = _folder_of(path, members)
    wanted = {x.filename: x for x in members if _split_of(x, folder) in splits}
    found = {_split_of(x, folder) for x in wanted.values()}
    lacking = [x for x in splits if x not in found]
    if lacking:
        raise ValueError(
            f'{path} holds no {folder}/{lacking[0]}/; the file that does is '
            f'{ZIP_OF[folder]} of {DOWNLOADS}'
        )
    return Archive(path, folder, tuple(wanted.values()))


def members_to_unpack(archive: Archive, root: Path) -> list[zipfile.ZipInfo]:
    """The members that are not there in the size that the zip file gives."""
    return [x for x in archive.members if _bytes_of(root / x.filename) != x.file_size]


def bytes_to_write(
    archive: Archive, members: Sequence[zipfile.ZipInfo], root: Path
) -> int:
    """Disk space that some members need once unpacked, with the labels made of them.

    Every file is counted in whole blocks of 4096 bytes; a label image as much as the
    ``*_labelIds.png`` beside it, which has the same shapes in other numbers.
    """
    sizes = [x.file_size for x in members]
    for member in archive.members:
        frame, suffix, _ = member.filename.partition(_LABEL_IDS_SUFFIX)
        if suffix and not label_path(root / f'{frame}{ANNOTATION_SUFFIX}').exists():
            sizes.append(member.file_size)
    return sum(-(-size // _BLOCK_BYTES) * _BLOCK_BYTES for size in sizes)


def check_space(root: Path, num_bytes: int) -> int:
    """Check that a disk has room, before anything is written to it.

    Args:
        root: Folder to write to; it need not exist.
        num_bytes: What will be written.

    Returns:
        The free space in bytes.

    Raises:
        RuntimeError: if it does not suffice.
    """
    absolute = root.absolute()
    there = next(x for x in (absolute, *absolute.parents) if x.exists())
    free = shutil.disk_usage(there).free
    if num_bytes > free:
        raise RuntimeError(
            f'unpacking into {root} needs {num_bytes / 1e9:.2f} GB and the disk has '
            f'{free / 1e9:.2f} GB free: free {(num_bytes - free) / 1e9:.2f} GB or name '
            'a folder on another disk'
        )
    return free


def unpack(
    archive: Archive, members: Sequence[zipfile.ZipInfo], root: Path
) -> Iterator[int]:
    """Unpack some members of a zip file; files that are there are replaced.

    Yields:
        The size of each file, once it is whole and has its name.

    Raises:
        ValueError: if the zip file is damaged; zipfile compares the checksum of each.
        RuntimeError: if the disk is full.
    """
    with zipfile.ZipFile(archive.path) as file:
        for member in members:
            try:
                _unpack_member(file, member, root)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise ValueError(
                    f'{archive.path} is damaged at {member.filename} ({error}); '
                    f'download it again from {DOWNLOADS}'
                ) from error
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise RuntimeError(
                    f'the disk of {root} is full; free some space and run the same '
                    'command again: it goes on where it stopped'
                ) from error
            yield member.file_size


def _unpack_member(file: zipfile.ZipFile, member: zipfile.ZipInfo, root: Path) -> None:
    target = root / member.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    # The same name in every run, so that a killed one leaves at most one to replace.
    partial = target.with_name(f'.{target.name}.part')
    try:
        with file.open(member) as source, partial.open('wb') as written:
            shutil.copyfileobj(source, written, _COPY_BYTES)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _check_inside(path: Path, name: str) -> None:
    # Backslashes and colons lead out on Windows.
    leaves = name.startswith('/') or '..' in PurePosixPath(name).parts
    if leaves or '\\' in name or ':' in name:
        raise ValueError(
            f'{path} holds the path {name!r}, which leaves the folder it is unpacked '
            f'to: it is not the official file; download it from {DOWNLOADS}'
        )


def _folder_of(path: Path, members: Sequence[zipfile.ZipInfo]) -> str:
    for folder, suffix in _SUFFIX_OF.items():
        if any(_split_of(x, folder) and x.filename.endswith(suffix) for x in members):
            return folder
    patterns = [f'{x}/SPLIT/CITY/*{suffix}' for x, suffix in _SUFFIX_OF.items()]
    raise ValueError(
        f'{path} is neither {ANNOTATION_ZIP} nor {IMAGE_ZIP}: it holds neither '
        f'{patterns[0]} nor {patterns[1]}; download these two from {DOWNLOADS}'
    )


def _split_of(member: zipfile.ZipInfo, folder: str) -> str:
    """The split of a file in FOLDER/SPLIT/CITY/; empty for any other."""
    parts = PurePosixPath(member.filename).parts
    # macOS adds "._<name>" to each file when it zips a folder.
    is_file = len(parts) == 4 and not parts[3].startswith('.')
    return parts[1] if is_file and parts[0] == folder else ''


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
