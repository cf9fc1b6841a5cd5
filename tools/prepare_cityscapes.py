"""Make the training labels of Cityscapes from its official download."""

from _command import run

if __name__ == '__main__':
    run('prepare_cityscapes')
