"""Drawn scenes whose truth is known exactly: the starter model's world, the demo's data and the tests' data.

``world`` decides what stands where, ``draw`` paints it, ``wording`` talks about it, ``files`` writes it all down.
"""
