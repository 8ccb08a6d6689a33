"""Receptive fields: which pixels of the image each element of a tensor depends on.

`span` holds, for every element of a tensor, the first and last row (or column) of the image that it
depends on. `propagation` follows these through a trace, one operator at a time, by `rules`: what
moves elements (a view) moves their spans, what combines elements (a window, a sum, a matrix
product) takes the first of their first rows and the last of their last ones. `probe` measures what
has no rule, by running the network on NaN.
"""
