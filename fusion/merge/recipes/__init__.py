"""A merge as a file.

In reading order:

    located.py           where its models lie: directories, and adapters with their bases
    foreign.py           mergekit's words: those that are taken, and those that are not offered
    values.py            what a value is for one parameter: gradients and filters
    recipe.py            read: mergekit's keys, and the hyperparameters of our rules
    written_recipe.py    written: a merge that was done, as the recipe that does it again
"""
