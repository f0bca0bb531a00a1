"""Sequence aligners: which positions of two tokenizations of one text belong together.

    token_dtw.py    the papers': the cheapest warping path by edit distance
    byte_span.py    exact: positions behind equal prefixes of the text

To add one: a file here, a line in fusion.align.SEQUENCE_ALIGNERS.  It meets `fusion.align.matches.SequenceAligner`.
"""
