"""What the predicted peak of a module consists of, for bars."""

from ..settings.plan import PlannedModule

#: From the start of a bar to its end.
LAYERS = (
    'weights, gradients, optimizer, batch, maps at walls',
    'activations of the units',
    'local or decode head and loss',
    'other memory at the peak',
)


def layers_of(module: PlannedModule) -> list[int]:
    """Bytes of the `LAYERS` of a module; their sum is its peak.

    The activations are those kept at the end of the forward passes. If the peak is at
    another time, fewer of them are alive.
    """
    free = module.peak_bytes
    layers = []
    for num_bytes in (module.start_bytes, module.activation_bytes, module.head_bytes):
        layer = max(0, min(num_bytes, free))
        layers.append(layer)
        free -= layer
    return [*layers, free]
