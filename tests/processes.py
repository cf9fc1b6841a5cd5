"""Starts processes for tests, which share what they import."""

import os

import torch
from torch import multiprocessing

_PRELOADED = ['infopro_seg', 'infopro_seg.pipeline', 'tests.helpers']


def start(function, args, num_processes):
    """Run ``function(rank, *args)`` in several processes and wait for them.

    They are forked from one that has imported the package, which takes seconds, and
    nothing else.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_PRELOADED)
    multiprocessing.start_processes(
        function, args=args, nprocs=num_processes, start_method='forkserver'
    )


def connect(rank, store, num_processes):
    """Make a process one of a group over gloo, as a launcher does."""
    os.environ['LOCAL_RANK'] = str(rank)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    file = torch.distributed.FileStore(str(store), num_processes)
    torch.distributed.init_process_group(
        'gloo', store=file, rank=rank, world_size=num_processes
    )
