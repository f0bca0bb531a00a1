"""A merged checkpoint with its card: what it was made of, how, what it scored, and what it is not for.

    chain.py    the artifacts behind one merged model of a finished cell
    card.py     README.md with the hub's front matter, and recipe.yaml beside it

`python -m ablations.model_card cell=DIR merged=NAME out=DIR` writes the folder; card.md.jinja is its text.
"""
