"""Runtime: the machine."""

FINE = vars(object), dir("text")
NAMES = (vars(), dir(), locals())
