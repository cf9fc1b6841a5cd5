"""How many bytes tensors occupy."""

from collections.abc import Iterable

from torch import Tensor

from ..compat import storage_key


def num_bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages behind tensors.

    A storage counts once, and as a whole, however many views of it there are.
    """
    storages = {storage_key(t): t.untyped_storage() for t in tensors}
    return sum(storage.nbytes() for storage in storages.values())
