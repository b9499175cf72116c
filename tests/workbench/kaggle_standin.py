"""A stand-in for Kaggle: the API that the real client asks, and a machine that runs what is pushed.

The API's answers have the form that the client's own types read. The machine executes the pushed
text as Kaggle would: renamed, from another folder, read-only, with the inputs mounted under
/kaggle/input and no network, in a namespace of its own (Linux's unshare and chroot).
"""

import codecs
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from receivers import Received, Reply, Server, serve

# Makes a root of bind mounts with /kaggle in it, and runs the script there.
MACHINE = """
set -e
mount -t tmpfs none "$NEW_ROOT"
for entry in /*; do
  if [ -L "$entry" ]; then cp -P "$entry" "$NEW_ROOT$entry"
  elif [ -d "$entry" ]; then mkdir "$NEW_ROOT$entry"; mount --rbind "$entry" "$NEW_ROOT$entry"; fi
done
mkdir -p "$NEW_ROOT/kaggle/input" "$NEW_ROOT/kaggle/working" "$NEW_ROOT/kaggle/src"
mount --bind "$INPUT" "$NEW_ROOT/kaggle/input"
mount -o remount,ro,bind "$NEW_ROOT/kaggle/input"
mount --bind "$WORKING" "$NEW_ROOT/kaggle/working"
mount --bind "$SOURCE" "$NEW_ROOT/kaggle/src"
mount -o remount,ro,bind "$NEW_ROOT/kaggle/src"
exec chroot "$NEW_ROOT" sh -c 'cd /kaggle/working && exec "$PYTHON" -I /kaggle/src/script.py'
"""
PAGE = 3  # files in a page of a kernel's output
REFUSED_BY_NAME = {"dataset": "nobody/nothing", "kernel": "nobody/no-kernel"}


def refuse(status: int, words: str) -> Reply:
    """A refusal in the shape that Kaggle's API gives it."""
    kind = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
    error = {"code": status, "message": words, "status": kind.get(status, "UNKNOWN")}
    return status, {}, {"error": error}


def start_on_machine(
    text: str, inputs: Path, working: Path, environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Runs a script as Kaggle would; returns the process, its output in a pipe."""
    source, root = working.with_name("source"), working.with_name("root")
    for folder in (source, root, working, inputs):
        folder.mkdir(parents=True, exist_ok=True)
    (source / "script.py").write_text(text, encoding="utf-8")
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    places = {"NEW_ROOT": root, "INPUT": inputs, "WORKING": working, "SOURCE": source}
    kaggle = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "PYTHON": sys.executable, "MPLBACKEND": "agg"}
    return subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c", MACHINE],
        env={**keep, **{name: str(path) for name, path in places.items()}, **kaggle, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def serve_kaggle(kaggle: "Kaggle") -> Iterator[Server]:
    """Serves the API, and logs that are streamed while they grow."""
    with serve(kaggle) as server:

        class Handler(server.http.RequestHandlerClass):
            def do_GET(self) -> None:  # noqa: N802
                slug = urlsplit(self.path).path.rpartition("/logs/stream/")[2].rpartition("/")[2]
                if "/logs/stream/" not in self.path or kaggle.refuses_logs(slug):
                    return self.answer()
                with suppress(ConnectionError):  # a reader may leave
                    self.write_stream(kaggle.stream(slug))
                return None

            def write_stream(self, events: Iterator[str]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in events:
                    data = f"data: {event}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                if kaggle.drops:
                    kaggle.drops -= 1
                    self.close_connection = True  # without the last chunk
                else:
                    self.wfile.write(b"0\r\n\r\n")

        server.http.RequestHandlerClass = Handler
        yield server


class Kaggle:
    """The account alice: her kernels, their runs, what she submitted."""

    def __init__(self, folder: Path, inputs: Path, environ: dict[str, str] | None = None) -> None:
        self.folder, self.inputs, self.environ = folder, inputs, environ or {}
        self.kernels: dict[str, dict[str, Any]] = {}
        self.submissions: list[dict[str, Any]] = []
        self.uploads: list[bytes] = []
        self.datasets: dict[str, list[dict[str, Any]]] = {}  # versions, by owner/slug
        self.refusals: list[Reply] = []  # answered next, to anything
        self.always: Reply | None = None  # answered to everything
        self.answers = threading.Event()  # cleared: a push is taken, and never answered
        self.answers.set()
        self.machine = False  # does a kernel that was pushed run?
        self.drops = 0  # streams of a log that break off after the first records
        self.plain_log = self.upload_fails = False
        self.expired: set[str] = set()  # files of an output whose links are no longer good
        self.strange: list[str] = []  # more names in an output's list

    def __call__(self, request: Received) -> Reply:
        if self.refusals or self.always:
            return self.refusals.pop(0) if self.refusals else self.always
        path = urlsplit(request.path).path
        if not request.headers.get("authorization") and path.startswith("/api/"):
            return refuse(401, "Unauthenticated")
        if path.startswith("/dl/"):
            return self.download(path.removeprefix("/dl/"))
        if path.startswith("/upload/") and self.upload_fails:
            return refuse(500, "Internal")
        if path.startswith("/upload/"):
            self.uploads.append(request.body)
            return 200, {}, {}
        if "/logs/stream/" in path:
            log = self.keep_log(self.kernels[path.rpartition("/")[2]])
            return 200, {"Content-Type": "application/octet-stream"}, log.encode()
        answer = getattr(self, path.rpartition("/")[2])
        return answer(request.json if request.body else {})

    def SaveKernel(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        if len(asked["text"].encode()) >= 1_000_000:
            words = "The kernel source must be less than 1 megabytes in size."
            return refuse(400, words)
        slug = asked["slug"].partition("/")[2]
        invalid = {
            f"invalid{kind.title()}Sources": [
                one for one in asked.get(f"{kind}DataSources", []) if one == name
            ]
            for kind, name in REFUSED_BY_NAME.items()
        }
        known = self.kernels.setdefault(slug, {"version": 0, "asked": {}})
        known |= {"version": known["version"] + 1, "asked": asked, "status": "QUEUED"}
        self.answers.wait()
        url = f"https://www.kaggle.com/code/alice/{slug}"
        taken = {name: names for name, names in invalid.items() if names}
        return 200, {}, {"ref": url, "url": url, "versionNumber": known["version"], **taken}

    def GetKernelSessionStatus(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        kernel = self.kernels.get(asked["kernelSlug"])
        if kernel is None:
            return refuse(404, "Kernel not found")
        status = kernel["status"]
        if status == "QUEUED" and self.machine:
            kernel["status"] = "RUNNING"
            threading.Thread(target=self.run, args=(asked["kernelSlug"],), daemon=True).start()
        return 200, {}, {"status": status, "failureMessage": kernel.get("failure", "")}

    def run(self, slug: str) -> None:
        """Runs the latest version; its log grows by what it prints, in the pieces it prints."""
        kernel = self.kernels[slug]
        working = self.folder / f"{slug}-{kernel['version']}" / "working"
        kernel["log"] = []
        with start_on_machine(kernel["asked"]["text"], self.inputs, working, self.environ) as run:
            decoder = codecs.getincrementaldecoder("utf-8")()
            while piece := os.read(run.stdout.fileno(), 65_536):
                self.write_log(slug, decoder.decode(piece))
        kernel |= {"working": working, "status": "ERROR" if run.returncode else "COMPLETE"}

    def write_log(self, slug: str, text: str) -> None:
        log = self.kernels[slug]["log"]
        log.append({"stream_name": "stdout", "time": len(log), "data": text})

    def finish(self, slug: str, version: int, log: str = "", **files: str) -> None:
        """Ends a version's session without a machine; its output is these files."""
        kernel = self.kernels[slug]
        kernel["working"] = self.folder / f"{slug}-{version}" / "working"
        kernel["working"].mkdir(parents=True)
        for name, text in files.items():
            (kernel["working"] / name.replace("__", ".")).write_text(text, encoding="utf-8")
        kernel["log"] = []
        self.write_log(slug, log)
        kernel["status"] = "COMPLETE"

    def ListKernelSessionOutput(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        """A page of the output of the last session that has ended, whichever is asked for."""
        kernel = self.kernels[asked["kernelSlug"]]
        working = kernel.get("working")
        paths = sorted(path for path in working.rglob("*") if path.is_file()) if working else []
        names = [*self.strange, *(path.relative_to(working).as_posix() for path in paths)]
        start = int(asked.get("pageToken") or 0)
        end = start + PAGE
        files = [
            {"url": f"http://localhost/dl/{asked['kernelSlug']}/{name}", "fileName": name}
            for name in names[start:end]
        ]
        more = {"nextPageToken": str(end)} if names[end:] else {}
        return 200, {}, {"files": files, "log": self.keep_log(kernel), **more}

    def keep_log(self, kernel: dict[str, Any]) -> str:
        """A log as Kaggle keeps it: the list of its records, or plain text."""
        log = kernel.get("log", [])
        return "".join(one["data"] for one in log) if self.plain_log else json.dumps(log)

    def download(self, place: str) -> Reply:
        slug, _, name = place.partition("/")
        if name in self.expired:
            return 403, {"Content-Type": "text/html"}, b"<html>the link has expired</html>"
        headers = {"Last-Modified": formatdate(usegmt=True)}
        return 200, headers, (self.kernels[slug]["working"] / name).read_bytes()

    def refuses_logs(self, slug: str) -> bool:
        """Is a log's address answered as all others are: refused, or with what was kept?"""
        return bool(self.refusals or self.always) or not self.is_running(slug)

    def is_running(self, slug: str) -> bool:
        return self.kernels[slug]["status"] in ("QUEUED", "RUNNING")

    def stream(self, slug: str) -> Iterator[str]:
        """The records of a log as they come; the first of them only, if the stream is to drop."""
        sent, running = 0, True
        while running and not (sent and self.drops):
            running = self.is_running(slug)
            log = self.kernels[slug].get("log", [])
            yield from map(json.dumps, log[sent:])
            sent = len(log)
            time.sleep(0.01)
        if not self.drops:
            yield "END_OF_LOG"

    def GetDatasetStatus(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        if f"{asked['ownerSlug']}/{asked['datasetSlug']}" not in self.datasets:
            return refuse(404, "Dataset not found")
        return 200, {}, {"status": "READY"}

    def GetDatasetMetadata(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        made = self.datasets[f"{asked['ownerSlug']}/{asked['datasetSlug']}"][0]
        return 200, {}, {"info": {name: made[name] for name in ("title", "isPrivate")}}

    def StartBlobUpload(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        number = len(self.uploads)
        return 200, {}, {"token": str(number), "createUrl": f"http://localhost/upload/{number}"}

    def CreateDataset(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        address = f"{asked['ownerSlug']}/{asked['slug']}"
        if address in self.datasets:
            words = f"The requested title {asked['title']!r} is already in use by a dataset."
            return 200, {}, {"status": "error", "error": words}
        self.datasets[address] = [asked]
        return 200, {}, {"status": "ok", "url": f"https://www.kaggle.com/datasets/{address}"}

    def CreateDatasetVersion(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        address = f"{asked['ownerSlug']}/{asked['datasetSlug']}"
        self.datasets[address].append(asked)
        return 200, {}, {"status": "ok", "url": f"https://www.kaggle.com/datasets/{address}"}

    def StartSubmissionUpload(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        return 200, {}, {"token": "t", "createUrl": "http://localhost/upload/1"}

    def CreateSubmission(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        self.submissions.append(asked)
        return 200, {}, {"message": "Successfully submitted to Digits", "ref": 1}

    def CreateCodeSubmission(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        self.submissions.append(asked)
        return 200, {}, {"message": "Successfully submitted to Digits", "ref": 2}

    def GetSubmissionLimits(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        return refuse(404, "not here")

    def GetAcceleratorQuotaStatistics(self, asked: dict[str, Any]) -> Reply:  # noqa: N802
        quota = {"timeUsed": "3600s", "totalTimeAllowed": "108000s"}
        tpu = {"timeUsed": "0s", "totalTimeAllowed": "72000s"}
        refresh = "2026-11-28T00:00:00Z"
        return 200, {}, {"quotaRefreshTime": refresh, "gpuQuota": quota, "tpuQuota": tpu}
