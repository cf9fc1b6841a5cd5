"""Write a config that turns an mmseg config into local modules."""

from _command import run

if __name__ == '__main__':
    run('localize')
