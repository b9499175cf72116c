from pathlib import Path

import pytest

from podium.handles import (
    BackboneError,
    find_module,
    find_weights_file,
    list_mounts,
    read_handle,
)

HANDLE = "google/efficientnet-v2/tensorFlow2/imagenet1k-b0-feature-vector"


def put_module(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        (f"{HANDLE}/2", f"{HANDLE}/2"),
        (HANDLE, HANDLE),
        (HANDLE.replace("tensorFlow2", "tensorflow2"), HANDLE),
        (f"https://www.kaggle.com/models/{HANDLE}/2", f"{HANDLE}/2"),
        (f"https://kaggle.com/models/{HANDLE}/2/?tab=readme", f"{HANDLE}/2"),
        (
            (
                "https://www.kaggle.com/models/google/efficientnet-v2/frameworks/TensorFlow2/"
                "variations/imagenet1k-b0-feature-vector/versions/2"
            ),
            f"{HANDLE}/2",
        ),
        (
            "https://tfhub.dev/google/imagenet/efficientnet_v2_imagenet1k_b0/feature_vector/2",
            HANDLE,
        ),
        (
            "https://tfhub.dev/google/imagenet/mobilenet_v2_140_224/feature_vector/5",
            "google/mobilenet-v2/tensorFlow2/140-224-feature-vector",
        ),
        (
            "https://tfhub.dev/google/imagenet/inception_v3/classification/5",
            "google/inception-v3/tensorFlow2/classification",
        ),
        ("/data/module", None),
        ("module", None),
    ],
)
def test_handles_and_addresses_of_one_module_mean_the_same(text: str, handle: str | None):
    assert read_handle(text) == handle


def test_an_address_that_is_not_understood_is_an_error():
    with pytest.raises(BackboneError, match="the address https://tfhub.dev/x/y/1 is not underst"):
        read_handle("https://tfhub.dev/x/y/1")


@pytest.mark.parametrize("layout", ["models/google/efficientnet-v2", "efficientnet-v2"])
@pytest.mark.parametrize("version", ["2", ""])
def test_an_attached_module_is_found_in_both_mounts_with_and_without_version(
    tmp_path: Path, layout: str, version: str
):
    place = tmp_path / layout / "tensorflow2" / "imagenet1k-b0-feature-vector" / version
    put_module(place)
    assert find_module(f"{HANDLE}/2", 0.0, tmp_path) == place


def test_another_attached_version_serves_too_and_the_newest_first(tmp_path: Path):
    base = tmp_path / "models/google/efficientnet-v2/tensorflow2/imagenet1k-b0-feature-vector"
    for version in ("9", "10"):
        put_module(base / version)
    assert find_module(f"{HANDLE}/2", 0.0, tmp_path) == base / "10"
    assert next(list_mounts(f"{HANDLE}/2", tmp_path)) == base / "2"


def test_a_folder_is_a_module_where_it_lies(tmp_path: Path):
    folder = put_module(tmp_path / "exported")
    assert find_module(str(folder), 0.0, tmp_path / "input") == folder


def test_an_attached_module_comes_before_a_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mounted = tmp_path / "models/google/efficientnet-v2/tensorflow2/imagenet1k-b0-feature-vector/2"
    for folder in (mounted, tmp_path / "here" / HANDLE / "2"):
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").touch()
    monkeypatch.chdir(tmp_path / "here")
    assert find_module(f"{HANDLE}/2", 0.0, tmp_path) == mounted
    assert find_module(f"{HANDLE}/2", 0.0, tmp_path / "nothing") == Path(HANDLE) / "2"


def test_a_folder_without_a_module_is_an_error_that_says_where_it_looked(tmp_path: Path):
    with pytest.raises(BackboneError) as caught:
        find_module(str(tmp_path / "nothing"), 0.0, tmp_path)
    assert str(caught.value) == (
        f"model.backbone: no SavedModel is there; looked for\n  {tmp_path}/nothing/saved_model.pb"
    )


def test_a_module_neither_attached_nor_reachable_is_an_error_with_all_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))  # and the network is refused
    with pytest.raises(BackboneError) as caught:
        find_module(f"{HANDLE}/2", 1.0, tmp_path)
    words = str(caught.value)
    assert f"the module {HANDLE}/2 is not attached and cannot be downloaded (" in words
    assert "attach it to the notebook (Add Input, Models), switch internet on, or name" in words
    assert f"{tmp_path}/models/google/efficientnet-v2/tensorflow2/imagenet1k-b0-feat" in words
    assert f"{tmp_path}/efficientnet-v2/tensorflow2/imagenet1k-b0-feature-vector/2/saved" in words


def test_weights_are_found_by_name_anywhere_among_the_inputs(tmp_path: Path):
    deep = tmp_path / "datasets" / "someone" / "weights" / "EfficientNetV2B0.weights.h5"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"")
    assert find_weights_file({"efficientnetv2b0.weights.h5"}, tmp_path) == deep
    assert find_weights_file({"other.h5"}, tmp_path) is None
    assert find_weights_file({"other.h5"}, tmp_path / "no-such-folder") is None
