"""B: the second."""

import random
from random import shuffle

from podium.a import (
    ROWS,
    Counted,
    Late,
    Opened,
    Worker,
    delay,
    keep,
    load,
    load_all,
    load_library,
    make_folder,
    read_table,
    remove,
    run,
    set_state,
    set_variable,
)

FINE = (read_table("name width"), Counted(), delay())


@keep
def kept() -> None: ...


TEXT = load()
TEXTS = load_all()


class Holder:
    folder = make_folder()
    random.seed = 1


NOTHING = (remove(), set_variable(), set_state())
KERAS = load_library()


@run
def decorated() -> None: ...


OBJECTS = (Opened(), Late())
THREAD = Worker()
ALIAS = open
FILE = ALIAS("x")
METHODS = (Counted().close(), shuffle(ROWS), random.Random().choice)
