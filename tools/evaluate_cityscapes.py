"""Score saved predictions with the official Cityscapes evaluation."""

from _command import run

if __name__ == '__main__':
    run('evaluate_cityscapes')
