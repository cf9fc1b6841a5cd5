from matplotlib import image

from infopro_seg.report.dial_picture import draw_dial


def test_exact_steps_run_again_what_local_ones_keep(tmp_path):
    draw_dial(tmp_path / 'dial.png')
    pixels = (image.imread(tmp_path / 'dial.png')[:, :, :3] * 255).round()
    upper, lower = pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]
    kept, again = ((0x3B, 0x7D, 0xD8), (0xE3, 0xA2, 0x3C))
    blue = [(half == kept).all(axis=2).sum() for half in (upper, lower)]
    orange = [(half == again).all(axis=2).sum() for half in (upper, lower)]
    assert blue[0] > 3 * blue[1] > 0
    assert orange[0] == 0
    assert orange[1] > blue[1]
