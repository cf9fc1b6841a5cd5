"""Measure where a trained network loses information."""

from _command import run

if __name__ == '__main__':
    run('probe')
