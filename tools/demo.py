"""Train a small network as local modules on drawn street scenes, and look at it."""

from _command import run

if __name__ == '__main__':
    run('demo')
