"""Tell which configs of the installed mmseg can be trained as local modules."""

from _command import run

if __name__ == '__main__':
    run('classify_models')
