"""A tiny data set in the layout of the official Cityscapes download.

It is drawn with numpy alone: every polygon is an axis-aligned rectangle, so what
cityscapesscripts makes of the polygons can be compared with what is drawn here.
"""

import json
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from PIL import Image

CITIES = {'train': ('aachen', 'bochum'), 'val': ('frankfurt', 'lindau')}


class Kind(NamedTuple):
    label_id: int
    color: tuple[int, int, int]
    has_instances: bool = False


# Source: the label table of Cityscapes; tests compare it with cityscapesscripts.
KINDS = {
    'unlabeled': Kind(0, (0, 0, 0)),
    'ego vehicle': Kind(1, (0, 0, 0)),
    'out of roi': Kind(3, (0, 0, 0)),
    'road': Kind(7, (128, 64, 128)),
    'sidewalk': Kind(8, (244, 35, 232)),
    'building': Kind(11, (70, 70, 70)),
    'pole': Kind(17, (153, 153, 153)),
    'traffic sign': Kind(20, (220, 220, 0)),
    'vegetation': Kind(21, (107, 142, 35)),
    'sky': Kind(23, (70, 130, 180)),
    'person': Kind(24, (220, 20, 60), True),
    'car': Kind(26, (0, 0, 142), True),
    'caravan': Kind(29, (0, 0, 90), True),
    'license plate': Kind(-1, (0, 0, 142)),
}


class Box(NamedTuple):
    """A rectangle; the corners (x0, y0) and (x1, y1) belong to it."""

    label: str
    x0: int
    y0: int
    x1: int
    y1: int


def write_cityscapes(
    root: Path,
    *,
    num_train: int = 4,
    num_val: int = 2,
    size: tuple[int, int] = (64, 128),
    seed: int = 0,
) -> Path:
    """Write images, polygons, labelIds, instanceIds and colours, not labelTrainIds.

    Args:
        root: folder that gets leftImg8bit/ and gtFine/.
        num_train: images of train, in turn from two cities.
        num_val: images of val, in turn from two cities.
        size: height and width in pixels, at least 32 each.
        seed: equal seeds give equal files.

    Returns:
        The folder.
    """
    if min(size) < 32:
        raise ValueError(f'size must be at least 32 x 32, got {size}')
    for split, count in (('train', num_train), ('val', num_val)):
        for index in range(count):
            rng = np.random.default_rng((seed, split == 'val', index))
            city = CITIES[split][index % 2]
            write_frame(root, split, f'{city}_{index:06d}_000019', size, rng)
    return root


def write_zips(root: Path, folder: Path) -> tuple[Path, Path]:
    """Zip a data set as the download is: each folder with a README and a licence.

    Args:
        root: folder of the data set.
        folder: folder that gets the zip files.

    Returns:
        gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in ('gtFine', 'leftImg8bit'):
        paths.append(folder / f'{name}_trainvaltest.zip')
        with ZipFile(paths[-1], 'w', ZIP_DEFLATED) as file:
            file.writestr('README', 'The Cityscapes Dataset')
            file.writestr('license.txt', 'terms of use')
            for path in sorted((root / name).rglob('*')):
                file.write(path, path.relative_to(root))
    return paths[0], paths[1]


def write_frame(
    root: Path,
    split: str,
    frame: str,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    city = frame.split('_')[0]
    images = root / 'leftImg8bit' / split / city
    annotations = root / 'gtFine' / split / city
    images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(parents=True, exist_ok=True)
    boxes = street(size, rng)
    label_ids, instance_ids, colors = draw(boxes, size)
    prefix = annotations / f'{frame}_gtFine'
    Path(f'{prefix}_polygons.json').write_text(json.dumps(as_polygons(boxes, size)))
    Image.fromarray(label_ids).save(f'{prefix}_labelIds.png')
    Image.fromarray(instance_ids).save(f'{prefix}_instanceIds.png')
    Image.fromarray(colors).save(f'{prefix}_color.png')
    image = photograph(colors[..., :3], rng)
    Image.fromarray(image).save(images / f'{frame}_leftImg8bit.png')


def street(size: tuple[int, int], rng: np.random.Generator) -> list[Box]:
    """Arrange a street, from back to front, as the official polygons are ordered."""
    height, width = size
    horizon = int(height * rng.uniform(0.3, 0.4))
    curb = int(height * rng.uniform(0.55, 0.65))
    hood = int(height * 0.92)
    tree, pole, person = (int(width * rng.uniform(0.05, 0.9)) for _ in range(3))
    car = int(width * rng.uniform(0.1, 0.3))
    parked = int(width * rng.uniform(0.55, 0.7))
    eighth, down = width // 8, height // 8
    return [
        Box('sky', 0, 0, width - 1, horizon),
        Box('building', 0, height // 5, width // 2, curb),
        Box('road', 0, curb, width - 1, height - 1),
        Box('sidewalk', width // 2, curb - down // 2, width - 1, curb + down // 2),
        Box('vegetation', tree, down, tree + eighth, curb - 2),
        Box('pole', pole, down, pole + 1, curb),
        Box('traffic sign', pole - 3, down, pole + 4, 2 * down),
        Box('person', person, curb - down, person + eighth // 2, curb + down),
        Box('persongroup', person + eighth, curb - down, person + 2 * eighth, curb),
        Box('car', car, curb, car + eighth, curb + down),
        Box('car', car + eighth, curb + 2, car + 2 * eighth, curb + 2 * down),
        Box('caravan', parked, curb + 1, parked + eighth, curb + down),
        Box('license plate', car + 1, curb + 1, car + 3, curb + 2),
        Box('ego vehicle', 0, hood, width - 1, height - 1),
        Box('out of roi', 0, 0, 1, height - 1),
    ]


def draw(
    boxes: list[Box], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill the rectangles in: label ids, instance ids (uint16) and RGBA colours."""
    label_ids = np.zeros(size, np.uint8)
    instance_ids = np.zeros(size, np.uint16)
    colors = np.full((*size, 4), (0, 0, 0, 255), np.uint8)
    num_instances: dict[str, int] = {}
    for box in boxes:
        name = box.label.removesuffix('group')
        kind = KINDS[name]
        if kind.label_id < 0:  # annotated, but in no label image
            continue
        instance_id = kind.label_id
        if kind.has_instances and name == box.label:
            count = num_instances.get(name, 0)
            instance_id = 1000 * kind.label_id + count
            num_instances[name] = count + 1
        where = np.s_[box.y0 : box.y1 + 1, max(box.x0, 0) : box.x1 + 1]
        label_ids[where] = kind.label_id
        instance_ids[where] = instance_id
        colors[where] = (*kind.color, 255)
    return label_ids, instance_ids, colors


def as_polygons(boxes: list[Box], size: tuple[int, int]) -> dict:
    objects = [
        {
            'label': label,
            'polygon': [[x0, y0], [x1, y0], [x1, y1], [x0, y1]],
        }
        for label, x0, y0, x1, y1 in boxes
    ]
    return {'imgHeight': size[0], 'imgWidth': size[1], 'objects': objects}


def photograph(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the classes' colours into a noisy image of random brightness."""
    light = rng.uniform(0.8, 1.0)
    noise = rng.normal(0, 12, colors.shape)
    return np.clip(colors * light + 20 + noise, 0, 255).astype(np.uint8)
