"""``python -m infopro_seg.cli`` is the command ``infopro-seg``, for launchers."""

import sys

from infopro_seg_command import main

if __name__ == '__main__':
    sys.exit(main())
