"""What is said about one image file, with the host's decoder as the judge."""

import io

import cv2
import mmcv
import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from infopro_seg.datasets.check.image_files import Decoder, look_at

DECODERS = [
    Decoder(backend, flag)
    for backend in ('cv2', 'pillow')
    for flag in ('color', 'grayscale', 'unchanged', 'color_ignore_orientation')
]
NAMES = [f'{decoder.backend}-{decoder.flag}' for decoder in DECODERS]


def picture(height=12, width=20, channels=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(kind, orientation=None, image=None, **settings):
    """A file of Pillow's, with an EXIF orientation if asked for."""
    image = PIL.Image.fromarray(picture().squeeze()) if image is None else image
    file = io.BytesIO()
    if orientation is not None:
        settings['exif'] = PIL.Image.Exif()
        settings['exif'][0x0112] = orientation
    image.save(file, kind, **settings)
    return file.getvalue()


def with_preview():
    """A JPEG whose EXIF block holds a whole small JPEG, as cameras write it."""
    content = encoded('JPEG')
    preview = b'Exif\0\0' + encoded('JPEG', image=PIL.Image.new('RGB', (8, 8)))
    segment = b'\xff\xe1' + (len(preview) + 2).to_bytes(2, 'big') + preview
    return content[:2] + segment + content[2:]


def written(path, content):
    path.write_bytes(content)
    return str(path)


def read(content, decoder):
    """What the host's loader gets, or None."""
    try:
        return mmcv.imfrombytes(content, flag=decoder.flag, backend=decoder.backend)
    except Exception:
        return None


WHOLE = {
    'jpeg': encoded('JPEG'),
    'progressive': encoded('JPEG', progressive=True),
    'preview': with_preview(),
    'grey': encoded('JPEG', image=PIL.Image.new('L', (20, 12))),
    'png': encoded('PNG'),
    'palette': encoded('PNG', image=PIL.Image.new('P', (20, 12))),
    '16 bit': cv2.imencode('.png', picture().astype(np.uint16) * 200)[1].tobytes(),
    'alpha': cv2.imencode('.png', picture(channels=4))[1].tobytes(),
    'grey and alpha': encoded('PNG', image=PIL.Image.new('LA', (20, 12))),
    '1 bit': encoded('PNG', image=PIL.Image.new('1', (20, 12))),
    'palette and transparency': encoded(
        'PNG', image=PIL.Image.new('P', (20, 12)), transparency=0
    ),
    'moving png': encoded(
        'PNG', save_all=True, append_images=[PIL.Image.new('RGB', (20, 12), 'red')]
    ),
    'cmyk': encoded('JPEG', image=PIL.Image.new('CMYK', (20, 12))),
    'two views': encoded(
        'MPO', save_all=True, append_images=[PIL.Image.new('RGB', (20, 12))]
    ),
    'bmp': encoded('BMP'),
    'gif': encoded('GIF', image=PIL.Image.new('P', (20, 12))),
    'ppm': encoded('PPM'),
    'jpeg 2000': encoded('JPEG2000'),
    'webp': encoded('WEBP'),
    'tiff': encoded('TIFF'),
    'tiff and alpha': encoded('TIFF', image=PIL.Image.new('RGBA', (20, 12))),
    'packed tiff': encoded('TIFF', compression='tiff_lzw'),
    'pages tiff': encoded(
        'TIFF', save_all=True, append_images=[PIL.Image.new('RGB', (7, 5))]
    ),
    'big tiff': encoded('TIFF', big_tiff=True),
    'float tiff': cv2.imencode('.tiff', picture().astype(np.float32))[1].tobytes(),
    '16 bit tiff': cv2.imencode('.tiff', picture().astype(np.uint16))[1].tobytes(),
    'hdr': cv2.imencode('.hdr', picture().astype(np.float32))[1].tobytes(),
    'jpeg and a video': encoded('JPEG') + b'ftypmp42' + bytes(range(200)) * 300,
    'preview and a video': with_preview() + bytes(5000),
    'png and more': encoded('PNG') + bytes(5000),
}


# Of other formats, and of some files of these, the size is for the loader to say.
UNSIZED = ('hdr', 'tiff', 'gif', 'jpeg 2000')


@pytest.mark.parametrize('decoder', DECODERS, ids=NAMES)
@pytest.mark.parametrize('name', WHOLE)
def test_what_the_loader_reads_passes_with_its_size(tmp_path, name, decoder):
    problem, size = look_at(written(tmp_path / 'a.jpg', WHOLE[name]), decoder)
    array = read(WHOLE[name], decoder)
    if array is not None:
        assert problem is None
        assert size in (None, array.shape[:2])
        assert size is not None or any(part in name for part in UNSIZED)
    else:
        assert problem is not None or decoder.backend == 'cv2'


@pytest.mark.parametrize('decoder', DECODERS, ids=NAMES)
@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_size_is_that_of_the_turned_picture(tmp_path, kind, orientation, decoder):
    content = encoded(kind, orientation)
    problem, size = look_at(written(tmp_path / 'a.jpg', content), decoder)
    assert problem is None
    assert size in (None, read(content, decoder).shape[:2])
    if kind == 'JPEG' or decoder.flag == 'unchanged' and kind != 'TIFF':
        assert size is not None


@pytest.mark.parametrize('decoder', DECODERS, ids=NAMES)
def test_orientation_in_xmp_is_pillows_alone(tmp_path, decoder):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    content = encoded('JPEG', xmp=xmp)
    problem, size = look_at(written(tmp_path / 'a.jpg', content), decoder)
    assert problem is None
    assert size in (None, read(content, decoder).shape[:2])
    assert size is not None or decoder.backend == 'cv2'


@pytest.mark.parametrize('decoder', DECODERS, ids=NAMES)
@pytest.mark.parametrize('kept', [0.1, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    'name', ['jpeg', 'progressive', 'preview', 'grey', 'png', 'palette', '16 bit']
)
def test_cut_files_are_found_and_no_file_that_is_read(tmp_path, name, kept, decoder):
    content = WHOLE[name][: int(len(WHOLE[name]) * kept)]
    problem, _ = look_at(written(tmp_path / 'a.jpg', content), decoder)
    array = read(content, decoder)
    if array is None:
        assert 'truncated' in problem
    else:  # Pillow, all pixels of a PNG are there; or OpenCV, a JPEG in part grey
        assert problem is None or name not in ('png', 'palette', '16 bit')


@pytest.mark.parametrize('decoder', DECODERS, ids=NAMES)
@pytest.mark.parametrize('restarts', [0, 1])
@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('shape', [(12, 20, 3), (101, 133, 3), (64, 64, 1)])
def test_no_loader_gets_the_pixels_of_a_jpeg_without_its_end_marker(
    tmp_path, shape, progressive, restarts, decoder
):
    # cv2.imread would, but the host decodes bytes: OpenCV 5 then returns nothing, and
    # OpenCV 4 wrong last rows.
    image = PIL.Image.fromarray(picture(*shape).squeeze())
    content = encoded(
        'JPEG', image=image, progressive=progressive, restart_marker_rows=restarts
    )
    problem, _ = look_at(written(tmp_path / 'a.jpg', content[:-2]), decoder)
    pixels = read(content[:-2], decoder)
    assert pixels is None or not np.array_equal(pixels, read(content, decoder))
    assert 'truncated' in problem


def test_png_without_its_last_bytes_is_for_the_decoder_to_judge(tmp_path):
    path = written(tmp_path / 'a.png', WHOLE['png'][:-12])
    assert look_at(path, Decoder('pillow', 'unchanged'))[0] is None


def test_cut_files_pass_if_pillow_was_told_so(tmp_path, monkeypatch):
    path = written(tmp_path / 'a.jpg', WHOLE['jpeg'][:-40])
    assert 'truncated' in look_at(path, Decoder('pillow', 'color'))[0]
    monkeypatch.setattr(PIL.ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    assert look_at(path, Decoder('pillow', 'color'))[0] is None


@pytest.mark.parametrize('decoder', DECODERS, ids=NAMES)
@pytest.mark.parametrize('content', [b'', b'<html>404 not found</html>', b'\0' * 99])
def test_other_files_are_no_images(tmp_path, content, decoder):
    assert read(content, decoder) is None
    problem, _ = look_at(written(tmp_path / 'a.png', content), decoder)
    assert 'is no image file' in problem


@pytest.mark.parametrize('backend', ['tifffile', 'turbojpeg'])
def test_other_decoders_are_left_alone(tmp_path, backend):
    decoder = Decoder(backend)
    assert look_at(written(tmp_path / 'a', b'anything'), decoder) == (None, None)
