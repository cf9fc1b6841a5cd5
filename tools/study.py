"""Train methods side by side, paired over seeds, and report their scores."""

from _command import run

if __name__ == '__main__':
    run('study')
