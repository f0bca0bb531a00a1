"""From answers to verdicts, and from verdicts to one scored model.

In reading order:

    collect.py          the verdicts; only what is missing is asked
    repeats.py          one request asked several times
    review.py           a second look, after reading what others said
    kept_reviews.py     what was said at second looks, by what was shown
    judgement.py        one judge's verdicts on one model's answers: their key, and those already on disk
    cost.py             tokens and money of one judge's replies
    estimate.py         what judging will cost, said before the first request
    judging.py          all of it: every judge on every model, kept as artifacts
    head_to_head.py     who is compared with whom
    recorded_rows.py    what a replayed file says by its own package's counting
    shown.py            what a reader can look up behind a score
    scored_by.py        the scored model
"""
