from pathlib import Path

import pytest

from workbench.competition_file import CompetitionFileError, read_competition_file
from workbench.kernel import derive_inference
from workbench.new_competition import TEMPLATE

KERNEL_RULE = (
    "kernel must be owner/slug, the slug 5 to 50 small letters, digits and hyphens, not None"
)


def write(folder: Path, text: str) -> Path:
    (folder / "digits.toml").write_text(text)
    return folder


def test_a_file_says_which_kernel_sources_and_settings(tmp_path: Path):
    text = 'kernel = "me/podium-digits"\ndatasets = ["a/b"]\n[settings]\n"train.epochs" = 3\n'
    kernel = read_competition_file("digits", write(tmp_path, text))
    assert (kernel.owner, kernel.slug, kernel.kind) == ("me", "podium-digits", "file")
    assert (kernel.datasets, kernel.kernels) == (("a/b",), ())
    assert kernel.config.train.epochs == 3


def test_every_mistake_is_told_at_once(tmp_path: Path):
    text = (
        'kernal = "x"\nkind = "csv"\naccelerator = "p100"\ninternet = "yes"\n'
        'datasets = ["only-a-name"]\n[settings]\n"train.epoch" = 3\n"folds.count" = 1\n'
    )
    with pytest.raises(CompetitionFileError) as error:
        read_competition_file("digits", write(tmp_path, text))
    assert str(error.value).splitlines() == [
        "digits.toml: unknown key 'kernal'; did you mean 'kernel'?",
        "digits.toml: internet must be true or false, not 'yes'",
        "digits.toml: " + KERNEL_RULE,
        "digits.toml: kind must be file, code, not 'csv'",
        "digits.toml: accelerator must be gpu, tpu, cpu, not 'p100'",
        "digits.toml: datasets must be addresses such as owner/slug, not 'only-a-name'",
        "digits.toml: unknown setting 'train.epoch'; did you mean 'train.epochs'?",
        "digits.toml: folds.count must be 2 to 20, not 1",
    ]


def test_sources_and_settings_of_another_kind_are_mistakes(tmp_path: Path):
    text = 'kernel = "me/podium-digits"\ndatasets = 5\nkernels = "a/b"\nsettings = 3\n'
    with pytest.raises(CompetitionFileError) as error:
        read_competition_file("digits", write(tmp_path, text))
    assert str(error.value).splitlines() == [
        "digits.toml: datasets must be a list of addresses such as owner/slug, not 5",
        "digits.toml: kernels must be a list of addresses such as owner/slug, not 'a/b'",
        "digits.toml: settings must be a table, [settings], not 3",
    ]


@pytest.mark.parametrize(("kind", "limit"), [("file", 50), ("code", 44)])
def test_a_slug_has_room_for_the_ending_of_the_inference_kernel(
    tmp_path: Path, kind: str, limit: int
):
    text = f'kind = "{kind}"\nkernel = "me/{"x" * limit}"\n'
    kernel = read_competition_file("digits", write(tmp_path, text))
    if kind == "code":
        assert len(derive_inference(kernel).slug) == 50
    with pytest.raises(CompetitionFileError, match=f"the slug 5 to {limit} small letters"):
        read_competition_file("digits", write(tmp_path, text.replace("/x", "/xx")))


def test_a_missing_file_and_one_that_is_no_toml_say_what_to_do(tmp_path: Path):
    with pytest.raises(CompetitionFileError, match=r"\(there: none\); make new COMPETITION=digits"):
        read_competition_file("digits", tmp_path)
    with pytest.raises(CompetitionFileError, match=r"digits.toml is no TOML: "):
        read_competition_file("digits", write(tmp_path, "kernel = \n"))


def test_what_make_new_writes_can_be_read(tmp_path: Path):
    text = TEMPLATE.format(
        slug="digits",
        owner="me",
        kernel="podium-digits",
        kind="code",
        accelerator="tpu",
        preset='preset = "tpu"\n',
        backbone="hub:imagenet21k-s",
    )
    kernel = read_competition_file("digits", write(tmp_path, text))
    assert kernel.config.model.backbone == "hub:imagenet21k-s"
    assert kernel.config.runtime.accelerator == "tpu"
