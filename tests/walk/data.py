"""Tiny data sets in the layout of the real ones: three images a split."""

import numpy as np
from PIL import Image

SIZE = (64, 128)
COUNT = 3


def write_cityscapes(root):
    for split in ('train', 'val'):
        for i in range(COUNT):
            name = f'aachen_{i:06d}_000019'
            image = root / f'leftImg8bit/{split}/aachen/{name}_leftImg8bit.png'
            label = root / f'gtFine/{split}/aachen/{name}_gtFine_labelTrainIds.png'
            _write(image, label, classes=range(19), ignored=255, seed=i)


def write_ade20k(root):
    for split in ('training', 'validation'):
        for i in range(COUNT):
            name = f'ADE_{split[:-3]}_{i + 1:08d}'
            image = root / f'images/{split}/{name}.jpg'
            label = root / f'annotations/{split}/{name}.png'
            _write(image, label, classes=range(1, 151), ignored=0, seed=i)


def write_camvid(root):
    for split in ('train', 'val', 'test'):
        for i in range(COUNT):
            name = f'0001TP_{i:06d}.png'
            image, label = root / split / name, root / f'{split}annot' / name
            _write(image, label, classes=range(11), ignored=11, seed=i)


WRITERS = {
    'CityscapesDataset': write_cityscapes,
    'ADE20KDataset': write_ade20k,
    'CamVidDataset': write_camvid,
}


def _write(image, label, *, classes, ignored, seed):
    """Blocks of 16x16 pixels, each of one class and of that class's colour."""
    random = np.random.default_rng(seed)
    blocks = random.choice(classes, (SIZE[0] // 16, SIZE[1] // 16))
    ids = blocks.repeat(16, 0).repeat(16, 1)
    colour = np.stack([ids * 13 % 256, ids * 57 % 256, ids * 101 % 256], -1)
    colour = (colour + random.integers(-9, 10, colour.shape)).clip(0, 255)
    ids[:4] = ignored
    for path, array in ((image, colour), (label, ids)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(path)
