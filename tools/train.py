"""Train a segmentation network, as local modules or end-to-end."""

from _command import run

if __name__ == '__main__':
    run('train')
