"""Steps become outcomes: the only room that changes the world.

Rule 1: journal before acting. No request without its BEGUN row; at most one request per intent.
Rule 2: it cannot choose. All it needs is in the step; it may only find reasons not to.
Rule 3: what may have been sent is never sent again. It is looked for, and its effect is proved.
Rule 4: every exit is one outcome, except cancellation: that leaves the intent to the next start.
"""
