"""Vocabulary maps: which pivot id a source id stands for.

    exact_match.py           EM: the equal token, others dropped
    min_edit_distance.py     MinED: else the nearest token
    mapping_statistics.py    MS: the token it was matched with most often over the corpus
    string_map.py            exact: the token of the same bytes, or none

To add one: a file here, a line in fusion.align.VOCABULARY_MAPS.  The first three hold their papers' transfer rules too.
"""
