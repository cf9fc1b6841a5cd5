"""Unpack the official download of Cityscapes and make its training labels."""

from _command import run

if __name__ == '__main__':
    run('prepare_cityscapes')
