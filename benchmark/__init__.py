"""The harness: plans a grid of cells, runs each in a fresh process under one clock, stores records, prints tables.

It finds methods, backbones, datasets and protocols by name through the registries in `core`; nothing but `ddbench` and
tests imports from here. Importing this package loads nothing else.
"""
