"""A world of planted runs behind a server that answers as the dashboard does, for the page."""

import base64
import copy
import io
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from workbench.dashboard import uplot

PAGE = Path(uplot.__file__).parent / "page"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
needs_library = pytest.mark.skipif(
    not uplot.PLACE.is_dir(), reason="no chart library; python -m workbench.dashboard.uplot gets it"
)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\u202egnp.exe \u2066& co",
    "javascript:alert(3)",
    "W" * 10_000,
)
PICTURE = "a" * 64


def draw_picture() -> bytes:
    """A JPEG of a blue field with a sun."""
    picture = Image.new("RGB", (96, 96), "#2c5e8a")
    ImageDraw.Draw(picture).ellipse((50, 14, 82, 46), fill="#e6c04a")
    data = io.BytesIO()
    picture.save(data, "JPEG")
    return data.getvalue()


def make_curve(run: str, fold: int, epochs: int, start: float, lift: float = 0.0) -> dict[str, Any]:
    """A fold's curve that learns, as /api/series has it; epochs take ten minutes."""
    steps = range(1, epochs + 1)
    accuracy = [0.94 + lift - 0.35 * math.exp(-step / 4) + 0.004 * fold for step in steps]
    figures = {
        "train/loss": [1.4 * math.exp(-step / 4) + 0.06 for step in steps],
        "valid/loss": [1.2 * math.exp(-step / 4) + 0.22 - lift + step / 200 for step in steps],
        "train/accuracy": [
            min(0.999, one + step / 250) for one, step in zip(accuracy, steps, strict=True)
        ],
        "valid/accuracy": accuracy,
        "valid/metric": [None for _ in steps],
        "learning_rate": [1e-3 * math.cos(step / 12 * 1.5) ** 2 for step in steps],
        "images_per_second": [900 + 20 * math.sin(step * 2 + fold) for step in steps],
    }
    return {
        "run": run,
        "fold": fold,
        "epoch": list(steps),
        "updates": [120 * step for step in steps],
        "time": [start + 600 * step for step in steps],
        "figures": figures,
        "of": epochs,
        "thinned": False,
    }


def make_card(run: str, now: float, **values: Any) -> dict[str, Any]:
    """A card as /api/runs has it: in its third fold of five, all well."""
    card = {
        "run": run,
        "title": "efficientnetv2-b0, 224 px",
        "name": f"run-{run}",
        "source": "webhook",
        "state": "running",
        "machine": "2 × gpu",
        "folds": 5,
        "epochs": 12,
        "fold": 2,
        "epoch": 7,
        "step": "step 180 of 412",
        "rate": 913.4,
        "metric": "accuracy",
        "higher": True,
        "value": 0.9123,
        "best": 0.9131,
        "best_epoch": 6,
        "best_fold": 1,
        "loss": 0.2812,
        "valid_loss": 0.3391,
        "scores": [0.9087, 0.9131],
        "mean": 0.9109,
        "sd": 0.0022,
        "result": None,
        "started": now - 5 * 3600,
        "seen": now - 3,
        "told": now - 4,
        "deadline": now + 4.3 * 3600,
        "eta": now + 3.4 * 3600,
        "verdict": "green",
        "verdict_words": "",
        "done": 31 / 60,
        "spark": [0.94 - 0.35 * math.exp(-step / 4) for step in range(1, 8)],
        "note": "",
        "missing": 0,
        "quiet": False,
        "stop": None,
    }
    return card | values


def make_details(card: dict[str, Any], names: tuple[str, ...] = ()) -> dict[str, Any]:
    """What /api/run tells of a run that has come far; class names are those given."""
    names = names or ("healthy", "bacterial blight", "mosaic", "green mottle", "brown streak")
    options = [
        {"name": "none", "score": 0.9109, "gain": None, "cost": 0.0, "fixed": None, "broken": None},
        {
            "name": names[1],
            "score": 0.9163,
            "gain": {"difference": 0.0054, "low": 0.0012, "p": 0.004, "n": 4096},
            "cost": 41.5,
            "fixed": 61,
            "broken": 39,
        },
    ]
    return {
        "card": card,
        "settings": {"folds.count": 5},
        "changed": {"pixels.image_size": [224, 384], "augment.policy": ["none", names[0]]},
        "source": "0" * 64,
        "reproduce": "python kernel/podium.py --pixels.image_size 384 --augment.policy light",
        "questions": [
            {
                "name": "tta",
                "asks": "Is test-time augmentation worth it?",
                "answer": f"Yes: {names[1]} gains 0.0054, at least 0.0012.",
                "metric": "accuracy",
                "chosen": names[1],
                "unit": "s",
                "notes": [
                    "Of 4,096 images; a gain of 0.004 would have been seen in 9 of 10 tries."
                ],
                "options": options,
            }
        ],
        "mistakes": {
            "wrong": 365,
            "of": 4096,
            "pairs": [[names[n % 5], names[(n + 1) % 5], 60 - 6 * n] for n in range(8)],
            "weakest": [[name, 400 + 10 * n, 300 + 20 * n] for n, name in enumerate(names)],
        },
        "images": [
            {
                "place": n,
                "id": f"train/{n:05}.jpg",
                "truth": names[n % 5],
                "guess": names[(n + 2) % 5],
                "prob": 0.99 - n / 50,
                "url": "javascript:alert(4)" if n == 7 else f"/image/{PICTURE}.jpg",
            }
            for n in range(8)
        ],
        "log": [
            {
                "time": card["started"] + 60 * n,
                "text": f"fold {n // 12} epoch {n % 12}: {names[n % 5][:60]}",
            }
            for n in range(40)
        ],
        "warnings": [f"batch norm's statistics lag behind; class {names[0][:200]}"],
        "files": [{"name": "submission.csv", "bytes": 81_234}, {"name": names[2], "bytes": 9}],
        "submission": "ab" * 32,
        "sessions": [
            {
                "session": "5e551014",
                "first": 1,
                "last": 412,
                "started": card["started"],
                "missing": [[40, 122]],
            }
        ],
        "plan": "The folds 0 to 2 train whole, folds 3 and 4 half as long.",
        "traceback": "",
    }


class World:
    """What the server tells; a test changes it, and `bump` makes it news."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets everything, for the next test."""
        self.now = time.time()
        self.version, self.changed = 1, dict[str, int]()
        self.cards, self.curves = dict[str, dict[str, Any]](), dict[str, list[dict[str, Any]]]()
        self.details = dict[str, dict[str, Any]]()
        self.relay: dict[str, Any] | None = None
        self.refusal: int | None = None
        self.stops, self.asked = list[str](), list[str]()
        self.names: tuple[str, ...] = ()

    def plant(
        self, run: str, lengths: tuple[int, ...] = (12, 12, 7), lift: float = 0.0, **values: Any
    ) -> None:
        """Adds a run with curves of so many epochs a fold."""
        card = self.cards[run] = make_card(run, self.now, **values)
        starts = [card["started"] + 600 * sum(lengths[:fold]) for fold in range(len(lengths))]
        self.curves[run] = [
            make_curve(run, fold, count, start, lift)
            for fold, (count, start) in enumerate(zip(lengths, starts, strict=True))
        ]
        self.details[run] = make_details(card, self.names)
        self.bump(run)

    def bump(self, run: str) -> None:
        """Makes a run news to the page."""
        self.version += 1
        self.changed[run] = self.version

    def list_runs(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        runs = [card for run, card in self.cards.items() if self.changed[run] > after]
        body = {"now": self.now, "version": self.version, "relay": self.relay, "runs": runs}
        return JSONResponse(body)

    def list_series(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        runs = request.query_params["runs"].split(",")
        found = [
            curve for run in runs if self.changed.get(run, 0) > after for curve in self.curves[run]
        ]
        return JSONResponse({"version": self.version, "runs": found})

    def compare(self, runs: list[str]) -> dict[str, Any]:
        known = [run for run in runs if run in self.cards]
        cards = [self.cards[run] for run in known]
        return {
            "settings": [
                {"name": "augment.policy", "values": ["none", "light", *HOSTILE][: len(known)]},
                {"name": "train.epochs", "values": [12 + n for n in range(len(known))]},
            ],
            "scores": [
                {"run": card["run"], "metric": card["metric"], "folds": card["scores"]}
                | {"mean": card["mean"], "sd": card["sd"], "result": card["result"]}
                for card in cards
            ],
        }

    def health(self) -> dict[str, Any]:
        fine = {
            "name": "webhook",
            "unsent": 0,
            "acked": self.now - 4,
            "refused": 0,
            "parked": False,
        }
        behind = {"name": "ntfy", "unsent": 81_920, "acked": None, "refused": 3, "parked": True}
        deliveries = [
            fine | {"skipped": 0, "trouble": ""},
            behind | {"skipped": 2, "trouble": "503"},
        ]
        runs = [
            {key: card[key] for key in ("run", "title", "seen", "told", "missing")}
            | {
                "lag": 1.2,
                "memory_free": 9_123_456_789,
                "disk_free": 18e9,
                "deliveries": deliveries,
            }
            for card in self.cards.values()
        ]
        store = {"events": 12_345, "bytes": 4_567_890, "runs": len(runs)}
        return {"now": self.now, "runs": runs, "relay": self.relay, "store": store}

    def report(self, *runs: str) -> dict[str, Any]:
        """What a static report of these runs is made of."""
        details = {run: copy.deepcopy(self.details[run]) for run in runs}
        for one in details.values():
            for image in one["images"]:
                image["url"] = f"data:image/jpeg;base64,{base64.b64encode(draw_picture()).decode()}"
        return {
            "now": self.now,
            "runs": [self.cards[run] for run in runs],
            "series": {"version": 1, "runs": [curve for run in runs for curve in self.curves[run]]},
            "details": details,
            "compare": self.compare(list(runs)),
        }

    async def stop(self, request: Request) -> Response:
        run = (await request.json())["run"]
        self.stops.append(run)
        stop = {"id": "c0ffee", "state": "asked", "expires": int(self.now) + 900}
        self.cards[run]["stop"] = stop
        self.bump(run)
        return JSONResponse(stop)

    async def answer(self, request: Request) -> Response:
        """Every path of the dashboard that the page asks."""
        path = request.url.path
        self.asked.append(str(request.url).removeprefix(str(request.base_url)))
        if self.refusal and path.startswith("/api/"):
            return Response("not now", self.refusal)
        if path == "/api/runs":
            return self.list_runs(request)
        if path == "/api/series":
            return self.list_series(request)
        if path == "/api/compare":
            return JSONResponse(self.compare(request.query_params["runs"].split(",")))
        if path == "/api/health":
            return JSONResponse(self.health())
        if path == "/api/stop":
            return await self.stop(request)
        if path.startswith("/api/run/"):
            return JSONResponse(self.details[path.removeprefix("/api/run/")])
        return self.answer_file(path)

    def answer_file(self, path: str) -> Response:
        if path.startswith("/image/"):
            return Response(draw_picture(), media_type="image/jpeg")
        name = "index.html" if path == "/" else path.removeprefix("/page/")
        found = uplot.find().get(name, PAGE / name)
        return FileResponse(found) if found.is_file() else Response("no such page", 404)


async def secure(world: World, request: Request) -> Response:
    answer = await world.answer(request)
    answer.headers["content-security-policy"] = CSP
    answer.headers["x-content-type-options"] = "nosniff"
    return answer


@contextmanager
def serve_world(world: World, port: int = 0) -> Iterator[str]:
    """Serves a world on 127.0.0.1; yields its address."""

    async def answer(request: Request) -> Response:
        return await secure(world, request)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.force_exit = server.should_exit = True
        thread.join()
