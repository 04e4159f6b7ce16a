"""Error rates with a stated guarantee: rules, how well probabilities tell the truth, and the record a bundle carries.

``tails`` exact binomial tails, ``selective`` and ``conformal`` the rules, ``scaling`` scores to probabilities, ``measures`` how
good those are, ``record`` what is kept for one artefact, ``applying`` what becomes of an answer.
"""
