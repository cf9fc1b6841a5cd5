"""What `make test` and `make test-all` try of a long list or a product."""

import pytest

#: Marks of what only `make test-products` tries.
PRODUCT = (pytest.mark.exhaustive, pytest.mark.product)


def some_of(values, *always):
    """Parameters of a test, all but some of them marked as exhaustive.

    Args:
        values: All that the test holds for.
        always: Those that `make test` tries.
    """
    values = list(values)
    unknown = [value for value in always if value not in values]
    if unknown:
        raise ValueError(f'{unknown} are not among {values}.')
    return [
        value
        if value in always
        else pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=pytest.mark.exhaustive,
        )
        for value in values
    ]
