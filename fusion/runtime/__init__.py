"""The ground floor: what keeps, starts, checks and shows things, and knows no model, no benchmark and no study.

fingerprint   which code decides a stage's bytes, as a digest that tidying leaves alone
"""
