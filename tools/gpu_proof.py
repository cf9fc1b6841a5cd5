"""Compare what is predicted with what a card does: memory, time, what fits."""

from _command import run

if __name__ == '__main__':
    run('gpu_proof')
