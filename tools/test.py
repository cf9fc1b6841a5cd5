"""Evaluate a checkpoint and save its predictions; test-time augmentation on request."""

from _command import run

if __name__ == '__main__':
    run('test')
