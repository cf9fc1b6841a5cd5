"""Choose local modules and recompute so that training fits a GPU, without a GPU."""

from _command import run

if __name__ == '__main__':
    run('plan')
