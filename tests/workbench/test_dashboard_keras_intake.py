"""The real keras.callbacks.RemoteMonitor, in both of its modes."""

import json
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_site import LiveSite, make_event, post, serve_site

from podium.sinks import KerasSink
from workbench.dashboard.keras_intake import read_logs, take_epoch
from workbench.dashboard.limits import MalformedError
from workbench.dashboard.store import Store

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with serve_site(tmp_path_factory.mktemp("dashboard")) as live:
        yield live


def list_folds(site: LiveSite, run: str) -> list[tuple[int, list[int], dict[str, Any]]]:
    curves = site.get(f"/api/series?runs={run}")["runs"]
    return [(one["fold"], one["epoch"], one["figures"]) for one in curves]


@pytest.mark.parametrize("as_json", [False, True])
def test_remote_monitor_s_curves_appear_and_a_second_fit_is_another_fold(
    site: LiveSite, as_json: bool
):
    import keras

    run = f"my run {as_json}"
    root = f"{site.url}/keras/{site.keys.write}/{run}"
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    images, labels = np.eye(8, 4, dtype=np.float32), np.arange(8, dtype=np.float32)
    monitor = keras.callbacks.RemoteMonitor(root=root, send_as_json=as_json)
    given: dict[str, Any] = {"validation_split": 0.25, "callbacks": [monitor], "verbose": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras only warns where it is refused
        fits = [model.fit(images, labels, epochs=epochs, **given).history for epochs in (3, 2)]
    names = {"loss": "train/loss", "val_loss": "valid/loss"}
    names |= {"mae": "train/mae", "val_mae": "valid/mae"}
    for fold, (history, told) in enumerate(zip(fits, list_folds(site, run), strict=True)):
        assert told[:2] == (fold, list(range(1, len(history["loss"]) + 1)))
        assert told[2] == {
            names[name]: pytest.approx(values, rel=1e-5) for name, values in history.items()
        }
    card = site.get(f"/api/run/{run}")["card"]
    assert (card["title"], card["name"], card["source"]) == (run, run, "keras")
    assert (card["metric"], card["missing"]) == ("loss", 0)
    assert card["value"] == pytest.approx(fits[1]["val_loss"][-1])


def test_without_a_key_a_monitor_at_this_machine_is_the_run_called_keras(site: LiveSite):
    from keras.callbacks import RemoteMonitor

    monitor = RemoteMonitor(root=site.url)
    monitor.on_epoch_end(0, {"loss": float("nan"), "val_loss": 1.0})
    assert list_folds(site, "keras") == [(0, [1], {"train/loss": [None], "valid/loss": [1.0]})]


def test_podium_s_own_keras_webhook_keeps_its_folds(site: LiveSite):
    requests_seen = []

    def send(request: Any) -> None:
        requests_seen.append(request)
        post(request.url, json=request.json).raise_for_status()

    sink = KerasSink(f"{site.url}/keras/{site.keys.write}/folds/publish/epoch/end/", form=False)
    for fold in (0, 1, 1):  # the last is a retry: it says the same
        event = make_event(1, "epoch_ended", fold=fold, epoch=1, learning_rate=0.1)
        sink.deliver([event | {"train/loss": 0.5, "valid/loss": 0.25}], {}, send)
    figures = {"train/loss": [0.5], "valid/loss": [0.25], "learning_rate": [0.1]}
    assert list_folds(site, "folds") == [(fold, [1], figures) for fold in (0, 1)]


@pytest.mark.parametrize("key", ["", "guess", "%00", "é"])
def test_another_key_is_refused(site: LiveSite, key: str):
    before = site.count()
    answer = post(f"{site.url}/keras/{key}/run/publish/epoch/end/", json={"epoch": 0})
    assert answer.status_code in (401, 404)
    assert site.count() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"data=",
        b"data=%7B%22epoch%22",
        b"data=%FF",
        b"\xff",
        b"other=1",
        b"data=[]",
        b'data={"epoch":-1}',
        b'data={"epoch":"0"}',
        b'data={"epoch":1e3}',
        b'data={"epoch":' + b"9" * 5000 + b"}",
        b"data=" + b"[" * 100_000,
        b"data=" + b'{"a":' * 900 + b"1" + b"}" * 900,
        b'data={"epoch":0,"' + b"k" * 200 + b'":1}',
        b'data={"epoch":0,"big":1' + b"0" * 30 + b"}",
        b"data={%s}" % b",".join(b'"k%d":1' % place for place in range(300)),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_no_epoch_is_400(site: LiveSite, body: bytes, as_json: bool):
    before = site.count()
    kind = "application/json" if as_json else "application/x-www-form-urlencoded"
    body = body.removeprefix(b"data=") if as_json else body
    answer = post(f"{site.url}/publish/epoch/end/", body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert site.count() == before


def test_a_figure_for_each_class_is_shortened_and_kept_beside_the_curves(tmp_path: Path):
    logs = read_logs(json.dumps({"epoch": 0, "f1": [0.5] * 1000}).encode(), "application/json")
    with closing(Store(tmp_path)) as store:
        assert take_epoch(store, "run", logs, 1.8e9).stored == 1
        with store.reading() as db:
            (body,) = db.execute("SELECT body FROM events").fetchone()
    assert json.loads(body)["train/f1"] == [0.5] * 20


def test_a_run_that_came_another_way_keeps_its_name_to_itself(tmp_path: Path):
    with closing(Store(tmp_path)) as store:
        store.take([make_event(1)], [], "webhook", 1.8e9)
        with pytest.raises(MalformedError, match="name this one otherwise"):
            take_epoch(store, "4042", {"epoch": 0, "loss": 1.0}, 1.8e9)
