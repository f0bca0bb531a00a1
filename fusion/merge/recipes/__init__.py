"""A merge as a file.

In reading order:

    recipe.py            read: mergekit's keys, and the hyperparameters of our rules
    written_recipe.py    written: a merge that was done, as the recipe that does it again
"""
