"""Predict the memory of many models, end-to-end and as K local modules, on no GPU."""

from _command import run

if __name__ == '__main__':
    run('memory_table')
