"""B: the second."""


def late():
    from podium.a import early

    early()
