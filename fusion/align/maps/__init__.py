"""Vocabulary maps: which pivot id a source id stands for.

    exact_match.py           EM: the equal token, others dropped
    min_edit_distance.py     MinED: else the nearest token
    mapping_statistics.py    MS: the token it was matched with most often over the corpus
    string_map.py            exact: the token of the same bytes, or none
    longest_prefix.py        exact, else the longest token that its text begins with

To add one: a file here, a line below, a file in conf/align.  The first three hold their papers' transfer rules too.
"""

from __future__ import annotations

from fusion.align.maps.exact_match import exact_match_map
from fusion.align.maps.longest_prefix import longest_prefix_map
from fusion.align.maps.mapping_statistics import mapping_statistics_map
from fusion.align.maps.min_edit_distance import min_edit_distance_map
from fusion.align.maps.string_map import string_map
from fusion.align.method import MapBuilder

VOCABULARY_MAPS: dict[str, MapBuilder] = {
    "exact_match": exact_match_map,
    "min_edit_distance": min_edit_distance_map,
    "mapping_statistics": mapping_statistics_map,
    "string": string_map,
    "longest_prefix": longest_prefix_map,
}
