"""Compare ways to train a network, side by side: time, memory, what fits a card."""

from _command import run

if __name__ == '__main__':
    run('benchmark')
