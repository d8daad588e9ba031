"""The checks that plugin authors run: `ddbench check`.

Imports nothing of the other wings.

    checks     the tests of a plugin by its kind
    method     of a method
    protocol   of a protocol
    backbone   of a backbone
    dataset    of a dataset
    shared     what all four kinds are asked
    subject    tiny data, a tiny network, a watch on side effects
    skeleton   `ddbench new`
    skeletons  the plugins that it writes
"""
