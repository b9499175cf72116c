"""A: the first."""


class Early:
    import json
