"""Write a checkpoint without local heads, which stock mmsegmentation loads strictly."""

from _command import run

if __name__ == '__main__':
    run('export_model')
