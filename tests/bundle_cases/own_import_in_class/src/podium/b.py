"""B: the second."""


class Late:
    from podium.a import early
