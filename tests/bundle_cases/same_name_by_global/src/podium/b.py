"""B: the second."""


def change():
    global STATE
    STATE = 2
