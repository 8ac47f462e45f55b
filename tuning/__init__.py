"""Visual extraction tuning, the paper's method, and the mini model made with it.

Rooms: `data` (questions and answers become extractions to learn), `training`, `evaluation`, `own`
(a person's own pictures), and `mini`, the recipe of the model that is shipped.
"""
