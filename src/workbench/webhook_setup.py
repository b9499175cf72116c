"""Puts the webhook's addresses into a private dataset, where a pushed kernel finds them.

Kaggle's own Secrets cannot be attached by a push. The addresses are read from PODIUM_WEBHOOK, so
that no shell keeps them in its history; they are written to Kaggle and nowhere else.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podium.address import WebhookError, read_webhook
from podium.webhook import SECRET_FILE, SECRET_NAME
from workbench.kaggle_client import KaggleRefusalError, ask, open_client
from workbench.kernel import VerbError, find_kernel, make_parser, run_verb
from workbench.kernel_metadata import SECRET_DATASET


def set_webhook_up(argv: Sequence[str]) -> None:
    """Checks the addresses and writes the private dataset, or a new version of it."""
    kernel = find_kernel(make_parser("webhook-setup", __doc__).parse_args(argv))
    words = os.environ.get(SECRET_NAME, "").split()
    if not words:
        raise VerbError(f"read -rs {SECRET_NAME}; export {SECRET_NAME}; then make webhook-setup")
    for place, word in enumerate(words, start=1):
        try:
            read_webhook(word, Path())
        except WebhookError as error:
            raise VerbError(f"address {place} cannot be used: {error}") from None
    client = open_client()
    address = f"{kernel.owner}/{SECRET_DATASET}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SECRET_FILE).write_text("\n".join(words) + "\n", encoding="utf-8")
        licence = [{"name": "other"}]
        about = {"title": SECRET_DATASET, "id": address, "licenses": licence}
        (folder / "dataset-metadata.json").write_text(json.dumps(about), encoding="utf-8")
        write_dataset(client, folder, address)
    print(
        f"{address} holds {len(words)} address(es), privately; set "
        f"webhook = true in the competition's file"
    )


def write_dataset(client: Any, folder: Path, address: str) -> None:
    """Creates the private dataset; where there is one already, writes a new version of it."""
    answer = ask(lambda: client.dataset_create_new(str(folder), public=False, quiet=True))
    if error := getattr(answer, "error", ""):
        if "already" not in str(error).lower():
            raise KaggleRefusalError(f"Kaggle refuses the dataset: {error}")
        check_private(client, address)
        notes = {"version_notes": "new addresses", "quiet": True, "delete_old_versions": True}
        answer = ask(lambda: client.dataset_create_version(str(folder), **notes))
        if error := getattr(answer, "error", ""):
            raise KaggleRefusalError(f"Kaggle refuses the new version: {error}")


def check_private(client: Any, address: str) -> None:
    """Raises VerbError unless Kaggle says that the dataset is private: it may have been shared."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetMetadataRequest

    request = ApiGetDatasetMetadataRequest()
    request.owner_slug, request.dataset_slug = address.split("/")

    def get_metadata() -> Any:
        with client.build_kaggle_client() as kaggle:
            return kaggle.datasets.dataset_api_client.get_dataset_metadata(request)

    if not getattr(ask(get_metadata).info, "is_private", False):
        raise VerbError(
            f"{address} is not private, so nothing was written; make it private on "
            f"https://www.kaggle.com/datasets/{address}/settings, or delete it there"
        )


if __name__ == "__main__":
    sys.exit(run_verb(set_webhook_up, sys.argv[1:]))
