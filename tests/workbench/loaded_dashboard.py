"""A process that stores from four threads and says what was acknowledged, until it is killed."""

import sys
import threading
import time
from pathlib import Path

from live_site import make_event

from workbench.dashboard.store import Span, Store


def tell(store: Store, session: str) -> None:
    for seq in range(1, 1_000_000):
        event = make_event(seq, "epoch_ended", fold=0, epoch=seq) | {"session": session}
        store.take([event], [Span("4042", session, seq, seq)], "webhook", time.time())
        sys.stdout.write(f"{session} {seq}\n")  # only now is it acknowledged
        sys.stdout.flush()


if __name__ == "__main__":
    shared = Store(Path(sys.argv[1]))
    for name in (sys.argv[2] + one for one in "abcd"):
        threading.Thread(target=tell, args=(shared, name), daemon=True).start()
    time.sleep(60)
