"""Runtime: the machine."""

FINE = print(__name__)
print(FINE)
for one in ():
    pass
