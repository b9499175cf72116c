"""A: the first."""


class Row: ...
