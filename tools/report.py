"""Write one HTML page of a run, finished or not; several work dirs are compared."""

from _command import run

if __name__ == '__main__':
    run('report')
