"""One image file: whether it is whole, and its size as the host will load it.

Nothing is decoded unless a file seems to be cut off. What only decoding could tell is
not judged, and less common formats always pass.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mmcv
import PIL.Image
import PIL.ImageFile
from mmcv.image import io as mmcv_io

_JPEG_START, _JPEG_END = b'\xff\xd8\xff', b'\xff\xd9'
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND\xae\x42\x60\x82'  # with its checksum, which is always the same
_SCAN = 0xDA
# Formats for which every decoder gives the size that Pillow reads from the header.
_SIZED = {'JPEG', 'MPO', 'PNG', 'BMP', 'PPM', 'TIFF', 'WEBP'}
_ORIENTATION = 0x0112
# Values of the EXIF orientation that swap height and width.
_SWAPPING = (5, 6, 7, 8)


@dataclass(frozen=True)
class Decoder:
    """How a loader of the host decodes a file.

    Args:
        backend: As for ``mmcv.imfrombytes``.
        flag: As for ``mmcv.imfrombytes``: ``color``, ``unchanged``, ...
    """

    backend: str = 'cv2'
    flag: str = 'color'

    @classmethod
    def of(cls, reader: Any) -> 'Decoder | None':
        """The decoder of a transform; None if it decodes in an unknown way."""
        name = type(reader).__name__
        if name not in ('LoadImageFromFile', 'LoadAnnotations'):
            return None
        backend = reader.imdecode_backend or mmcv_io.imread_backend
        return cls(backend, getattr(reader, 'color_type', 'unchanged'))


def look_at(path: str, decoder: Decoder) -> tuple[str | None, tuple[int, int] | None]:
    """What is wrong with a file, and its size.

    Args:
        path: An existing file.
        decoder: The decoder that will read it.

    Returns:
        A problem such as 'is no image file', or None; and (height, width) as decoded,
        or None if that is not certain.
    """
    problem = _cut_off(Path(path), decoder)
    if problem is not None or decoder.backend not in ('cv2', 'pillow'):
        return problem, None
    try:
        with PIL.Image.open(path) as image:
            return None, _size_as_read(image, decoder)
    except PIL.UnidentifiedImageError:
        readable = decoder.backend == 'cv2' and cv2.haveImageReader(path)
        return (None if readable else 'is no image file'), None
    except Exception as error:  # a header that Pillow cannot read, but OpenCV may
        is_final = decoder.backend == 'pillow'
        return (f'is truncated or damaged ({error})' if is_final else None), None


def _cut_off(path: Path, decoder: Decoder) -> str | None:
    """What is wrong with an empty file, or a JPEG or PNG file without its end.

    The end marker may be anywhere: phones append whole videos. Whether a PNG without
    one can be read depends on the decoder: Pillow reads it if all pixels are there. In
    a JPEG some decoders silently paint the missing part grey.
    """
    with path.open('rb') as file:
        start = file.read(len(_PNG_START))
        if not start:
            return 'is no image file (it is empty)'
        is_png = start == _PNG_START
        if not is_png and not start.startswith(_JPEG_START):
            return None
        end = _PNG_END if is_png else _JPEG_END
        file.seek(max(0, path.stat().st_size - len(end)))
        if file.read() == end:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            begin = 0 if is_png else _scan_of(data)
            if begin is not None and data.find(end, begin) >= 0:
                return None
            if is_png and _decodes(data[:], decoder):
                return None
    if decoder.backend == 'pillow' and PIL.ImageFile.LOAD_TRUNCATED_IMAGES:
        return None
    return 'is truncated: the end of the file is missing'


def _scan_of(data: mmap.mmap) -> int | None:
    """Where the pixels of a JPEG begin, after previews; None if nowhere.

    Source: ITU-T T.81, B.1.1: segments of marker, length, payload.
    """
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return position  # no segment: a decoder keeps searching from here
        marker = data[position + 1]
        if marker == _SCAN:
            return position
        if marker == 0xFF:
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            length = int.from_bytes(data[position + 2 : position + 4], 'big')
            position += 2 + length
    return None


def _decodes(content: bytes, decoder: Decoder) -> bool:
    try:
        image = mmcv.imfrombytes(content, flag=decoder.flag, backend=decoder.backend)
    except Exception:  # whatever the decoder cannot read, in its own words
        return False
    return image is not None


def _size_as_read(image: PIL.Image.Image, decoder: Decoder) -> tuple[int, int] | None:
    if image.format not in _SIZED:
        return None
    width, height = image.size
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # a broken EXIF block, which may not matter to the loader
        return None
    if orientation not in _SWAPPING:
        return height, width
    if image.format == 'TIFF':
        return None
    if decoder.flag == 'unchanged' or decoder.flag.endswith('ignore_orientation'):
        return height, width
    if decoder.backend == 'pillow':
        return width, height
    if image.format in ('JPEG', 'MPO') and _is_in_exif(image):
        return width, height
    return None  # OpenCV's versions differ


def _is_in_exif(image: PIL.Image.Image) -> bool:
    """Whether the orientation is in the EXIF block; Pillow also reads it from XMP."""
    exif = PIL.Image.Exif()
    exif.load(image.info.get('exif', b''))
    return exif.get(_ORIENTATION) in _SWAPPING
