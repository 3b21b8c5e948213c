"""Scores are kept beside the page: used where nothing that decides them has changed, and only there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from strangers import CLAIM, attempt, check

from dpaudit.errors import UsageError
from dpaudit.evidence import claims
from dpaudit.models.secret_spans import LocalModel
from dpaudit.planting import audit_key
from dpaudit.stages.audited import Audited
from dpaudit.stages.verify_kept import Kept
from dpaudit.storage import custody

TWO = CLAIM.replace("eps=0.5", "eps=2")
OPENED, KEPT = "opening the model", "are kept, and not asked again"


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "scores").iterdir())


def answers(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "verification.json").read_text())["answers"]


@pytest.fixture(scope="module")
def first(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter, and the page and scores of a first call."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(world / "adapter", folder / "adapter")
    done = check(*words(folder, world), "--claim", CLAIM)
    assert done.exit_code == 1 and OPENED in done.output and KEPT not in done.output
    return folder


@pytest.fixture
def called(first: Path, tmp_path: Path) -> Path:
    """A copy to do as one likes with."""
    folder = Path(shutil.copytree(first, tmp_path / "called"))
    page = folder / "page/verification.json"
    page.write_text(page.read_text().replace(str(first), str(folder)))  # the adapter's name
    return folder


def words(folder: Path, world: Path) -> list[object]:
    return ["--adapter", folder / "adapter", "--key", world / "key.json", "--out", folder / "page"]


def test_another_claim_does_not_open_the_model_again(called: Path, world: Path) -> None:
    before = answers(called / "page")
    alone = str(check(*words(called, world), "--claim", TWO).exception)
    adapter = f"--adapter {called / 'adapter'}"  # both claims can be copied from the refusal, and typed
    both = [f"{adapter} --claim {claims.typed(claims.parse(text))}" for text in (CLAIM, TWO)]
    assert f"type the same command with {' '.join(both)}; or name another folder" in alone
    assert "a family of its own, and errs in up to a further 5%" in alone
    done = check(*words(called, world), "--claim", CLAIM, "--claim", TWO)
    assert done.exit_code == 1 and KEPT in done.output and OPENED not in done.output
    now = answers(called / "page")
    assert now[0]["bound"]["correct"] == before[0]["bound"]["correct"] and len(now) == 2


def test_another_control_or_adapter_asks_for_what_is_new_alone(
    called: Path, world: Path, toy_adapter_dir: Path
) -> None:
    more = ["--data", world / "planted.jsonl", "--control", toy_adapter_dir]
    done = check(*words(called, world), "--claim", CLAIM, *more)
    assert "scores of the texts with a coin" in done.output and done.output.count(f"{OPENED} ...") == 2
    assert OPENED not in check(*words(called, world), "--claim", CLAIM, *more).output
    done = check(*words(called, world), "--claim", CLAIM, "--adapter", toy_adapter_dir, "--claim", TWO)
    assert done.output.count(f"{OPENED} ...") == 1 and done.output.count(KEPT) == 1


def test_a_control_that_found_nothing_says_so_and_how_to_get_power(
    called: Path, world: Path, toy_adapter_dir: Path
) -> None:
    """Two adapters that saw no canary and are alike, but no copies."""
    control = Path(shutil.copytree(toy_adapter_dir, called / "control"))
    weights = load_file(control / "adapter_model.safetensors")
    torch.manual_seed(0)
    moved = {
        name: tensor + 0.2 * tensor.std() * torch.randn(tensor.shape) for name, tensor in weights.items()
    }
    save_file(moved, control / "adapter_model.safetensors")
    more = ["--data", world / "planted.jsonl", "--control", control, "--adapter", toy_adapter_dir]
    done = check(*words(called, world)[2:], "--claim", TWO, *more, "--out", called / "other")
    assert done.exit_code == 4
    assert f"on the control {control}, trained without noise, the attack proves nothing (" in done.output
    assert "to get power: a control that learned this file: see that it was trained on it" in done.output
    page = (called / "other/index.html").read_text()
    assert "How to get power:" in page and "--control-steps N" in page


def test_a_call_that_was_stopped_while_it_asked_goes_on_where_it_was(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after 100 texts: the next call asks for the others alone, and ends in the same page."""
    adapter = shutil.copytree(world / "adapter", tmp_path / "adapter")
    again = ["--adapter", adapter, "--key", world / "key.json", "--claim", CLAIM]
    answer, asked = LocalModel.scores, []

    def counted(model: LocalModel, texts: Any, advance: Any = None) -> Any:
        if len(asked) >= stop_after:
            raise KeyboardInterrupt
        asked.extend(texts)
        return answer(model, texts, advance)

    monkeypatch.setattr(LocalModel, "scores", counted)
    stop_after = 100
    assert check(*again, "--out", tmp_path / "page").exit_code == 130
    stopped, stop_after = len(asked), 10**9
    (log,) = kept(tmp_path / "page")
    assert log.name.startswith(".") and log.stat().st_mode & 0o777 == 0o600
    assert all(canary.secret not in log.read_text() for canary in audit_key.load(world / "key.json").canaries)
    assert check(*again, "--out", tmp_path / "page").exit_code == 1
    in_all, asked[:] = len(asked), []
    assert [file.suffix for file in kept(tmp_path / "page")] == [".json"]
    assert check(*again, "--out", tmp_path / "at-once").exit_code == 1
    assert 0 < stopped < in_all == len(asked)
    first, second = answers(tmp_path / "page"), answers(tmp_path / "at-once")
    assert first == second


def test_what_is_kept_holds_no_text_and_is_its_owners_alone(first: Path, world: Path) -> None:
    key = audit_key.load(world / "key.json")
    (file,) = kept(first / "page")
    assert file.parent.stat().st_mode & 0o777 == 0o700 and file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert len(text) > 10_000 and key.hash_key not in text and "coins" not in text
    for canary in key.canaries:
        assert canary.secret not in text and canary.record.turns[0].text not in text


def test_an_altered_file_is_refused_by_name_and_numbers_are_read_from_a_whole_one(
    called: Path, world: Path
) -> None:
    (file,) = kept(called / "page")
    content = json.loads(file.read_text())
    for both in content["scores"].values():  # the adapter says what its base says: no trace is left
        both[0] = both[1]
    again = [*words(called, world), "--claim", CLAIM]
    for broken in (json.dumps(content), "{", "[]"):
        file.write_text(broken)
        told = check(*again).exception
        assert (
            isinstance(told, UsageError)
            and str(told).startswith(str(file))
            and "delete the file" in str(told)
        )
    own = custody.stamped(content, file.name, None)
    file.write_text(json.dumps(own))  # by somebody without the key
    assert "without a seal" in str(check(*again).exception)
    seal = bytes.fromhex(audit_key.load(world / "key.json").hash_key)
    file.write_text(json.dumps(custody.stamped(content, file.name, seal)))
    done = check(*again)
    assert done.exit_code == 4 and OPENED not in done.output and "no trace" in done.output


@pytest.mark.parametrize("changed", ["settings", "base", "template"])
def test_no_result_is_written_over_by_one_of_other_files(
    changed: str, called: Path, world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    again, settings = [*words(called, world), "--claim", CLAIM], called / "adapter/adapter_config.json"
    before = (called / "page/verification.json").read_bytes()
    if changed == "settings":
        known = json.loads(settings.read_text())
        settings.write_text(json.dumps(known | {"lora_alpha": 1}))
    else:
        copy = Path(shutil.copytree(toy_model_dir, tmp_path / "copy"))
        template = copy / "tokenizer_config.json"
        template.write_text(json.dumps(json.loads(template.read_text()) | {"chat_template": "{{ 'x' }}"}))
        again += ["--base" if changed == "base" else "--tokenizer", copy]
    assert "got a result for another model or claim" in str(check(*again).exception)
    assert (called / "page/verification.json").read_bytes() == before


def test_other_weights_are_asked_and_their_earlier_result_is_not_lost(called: Path, world: Path) -> None:
    from safetensors.torch import load_file, save_file

    file, again = called / "adapter/adapter_model.safetensors", [*words(called, world), "--claim", CLAIM]
    save_file(
        {name: tensor * 0.5 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"}
    )
    told = str(check(*again).exception)
    assert "got a result for another model or claim" in told
    assert f"the files of {called / 'adapter'} were others" in told
    (called / "page/verification.json").unlink()
    done = check(*again)
    assert OPENED in done.output and KEPT not in done.output and len(kept(called / "page")) == 2


def test_all_that_decides_the_numbers_names_the_file(called: Path, toy_model_dir: Path, world: Path) -> None:
    rows = list(audit_key.load(world / "key.json").canaries)
    base = Path(shutil.copytree(toy_model_dir, called / "base"))

    def name(
        renderings: tuple[str, ...] = ("chat",), key: str = "0" * 64, rows: Any = rows, **more: Any
    ) -> str:
        audited = Audited(called / "adapter", base=str(base), **more)
        store = Kept(called, key, b"k").of(audited, renderings)
        assert store is not None
        return store._file("canaries", rows).name

    names = {name(), name(("chat", "plain")), name(key="1" * 64), name(rows=rows[1:])}
    names |= {name(tokenizer=str(toy_model_dir))}
    assert name() in names
    for file in ("adapter/adapter_config.json", "base/config.json", "base/tokenizer_config.json"):
        (called / file).write_text((called / file).read_text() + " ")
        names.add(name())
    (called / "adapter/chat_template.jinja").write_text("{{ messages }}")
    assert len(names | {name()}) == 9
    assert (
        Kept(called, "0" * 64, b"k").of(Audited(endpoint="http://localhost/v1", model="m"), ("chat",)) is None
    )


def test_a_call_that_leaves_out_an_earlier_claim_says_what_to_repeat(called: Path, world: Path) -> None:
    told = check(*words(called, world), "--claim", TWO).exception
    assert isinstance(told, UsageError)
    typed = f"--adapter {called / 'adapter'} --claim eps=0.5,delta=1e-05,unit=record,relation=add_or_remove"
    assert typed in str(told)
    done = check(*words(called, world), "--claim", TWO, *typed.split())
    assert done.exit_code == 1 and [a["claim"]["epsilon"] for a in answers(called / "page")] == [2.0, 0.5]


def test_a_model_that_changes_while_it_is_asked_is_refused(called: Path, world: Path) -> None:
    audited = Audited(adapter=called / "adapter")
    store = Kept(called / "page/scores", "0" * 64, b"k").of(audited, ("chat",))
    assert store is not None
    store.require_unchanged()
    (called / "adapter/adapter_config.json").write_text("{}")
    with pytest.raises(UsageError):
        store.require_unchanged()


def test_what_failed_to_open_leaves_nothing(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "adapter", tmp_path / "adapter")
    (tmp_path / "adapter/adapter_model.safetensors").write_bytes(b"broken")
    attempt(Audited(adapter=tmp_path / "adapter"), world / "key.json", out=tmp_path / "page")
    assert not (tmp_path / "page").exists()
