"""Tokenizers of all kinds of files, compared with those that sentence-transformers uses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.transformer.tokenizer_files import probe_texts, read_tokenizer
from service.retrieval.errors import CheckpointError
from tests.conftest import PASSAGES, make_checkpoint, tiny_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "nai", "##robi", "Nai", "the", "is", "café"]
PIECES = [*WORDS, *map(chr, range(33, 127)), *(f"##{chr(code)}" for code in range(97, 123))]
VOCABULARY = "\n".join(PIECES)


def edit(path: Path, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | str]:
    """Vocabularies by kind: two of sentencepiece, words, byte pairs, and a tokenizer.json."""
    folder = tmp_path_factory.mktemp("vocabularies")
    (folder / "texts").write_text("\n".join(str(passage["text"]) for passage in PASSAGES))
    for kind in ("unigram", "bpe"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "texts"),
            model_prefix=str(folder / kind),
            model_type=kind,
            vocab_size=360,
            byte_fallback=kind == "bpe",
            minloglevel=2,
            hard_vocab_limit=False,
        )
    fast = tiny_tokenizer()
    fast.save(str(folder / "tokenizer.json"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return {
        "unigram": folder / "unigram.model",
        "bpe": folder / "bpe.model",
        "words": VOCABULARY,
        "roberta words": VOCABULARY.replace(
            "[PAD]\n[UNK]\n[CLS]\n[SEP]", "<s>\n<pad>\n</s>\n[UNK]"
        ),
        "fast": folder / "tokenizer.json",
        "vocab.json": json.dumps(model["vocab"]),
        "merges.txt": "#version: 0.2\n" + "\n".join(merges),
    }


def with_tokenizer(
    folder: Path, files: dict[str, Path | str], config: dict[str, Any] | None, model_type: str
) -> Path:
    """Replace the tokenizer of a tiny checkpoint."""
    make_checkpoint(folder, with_manifest=False)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    for name, content in files.items():
        if isinstance(content, Path):
            shutil.copyfile(content, folder / name)
        else:
            (folder / name).write_text(content)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    edit(folder / "config.json", model_type=model_type, classifier_dropout=None)
    return folder


def tokens_of(path: Path) -> list[list[int]]:
    """Return the token ids of the probe texts."""
    tokenizer = read_tokenizer(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [text.ids for text in tokenizer.encode_batch(probe_texts())]


LLAMA = {
    **{"tokenizer_class": "LlamaTokenizer", "add_bos_token": True},
    **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}
CASES: dict[str, tuple[str, dict[str, str], dict[str, Any] | None]] = {
    "words": ("bert", {"vocab.txt": "words"}, {"tokenizer_class": "BertTokenizer"}),
    "words without settings": ("bert", {"vocab.txt": "words"}, None),
    "words, cased": ("bert", {"vocab.txt": "words"}, {"do_lower_case": False}),
    "words, accents": ("bert", {"vocab.txt": "words"}, {"strip_accents": False}),
    "MPNet": ("mpnet", {"vocab.txt": "roberta words"}, {"tokenizer_class": "MPNetTokenizer"}),
    "byte pairs": (
        "roberta",
        {"vocab.json": "vocab.json", "merges.txt": "merges.txt"},
        {"tokenizer_class": "RobertaTokenizer"},
    ),
    "XLM-R": (
        "xlm-roberta",
        {"sentencepiece.bpe.model": "unigram"},
        {"tokenizer_class": "XLMRobertaTokenizer"},
    ),
    "CamemBERT": (
        "camembert",
        {"sentencepiece.bpe.model": "unigram"},
        {"tokenizer_class": "CamembertTokenizer"},
    ),
    "DeBERTa": (
        "deberta-v2",
        {"spm.model": "unigram"},
        {"tokenizer_class": "DebertaV2Tokenizer"},
    ),
    "T5": ("t5", {"spiece.model": "unigram"}, {"tokenizer_class": "T5Tokenizer"}),
    "Mistral": ("mistral", {"tokenizer.model": "bpe"}, LLAMA | {"add_eos_token": True}),
    "Mistral without EOS": (
        "mistral",
        {"tokenizer.model": "bpe"},
        LLAMA | {"add_eos_token": False},
    ),
    "Gemma": ("gemma3_text", {"tokenizer.model": "bpe"}, {"tokenizer_class": "GemmaTokenizer"}),
    "Qwen2, a template of the file lost": (
        "qwen2",
        {"tokenizer.json": "fast"},
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "</s>", "pad_token": "</s>"},
    ),
    "EOS by the settings": (
        "mistral",
        {"tokenizer.json": "fast"},
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "add_eos_token": True},
    ),
    "as it is": (
        "bert",
        {"tokenizer.json": "fast"},
        {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_texts_become_the_tokens_of_transformers(
    tmp_path: Path, vocabularies: dict[str, Path | str], name: str
) -> None:
    model_type, files, config = CASES[name]
    sources = {file: vocabularies[kind] for file, kind in files.items()}
    folder = with_tokenizer(tmp_path / "checkpoint", sources, config, model_type)

    layout = open_checkpoint(str(folder), tmp_path / "cache").query

    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokens_of(layout.tokenizer) == theirs(probe_texts())["input_ids"]
    assert (
        tokens_of(layout.tokenizer)[3][-1]
        == theirs("Nairobi is the CAPITAL of Kenya.")["input_ids"][-1]
    )


def test_a_file_that_reads_texts_as_transformers_does_is_read_where_it_is(
    tmp_path: Path, checkpoint_copy: Path
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    before = open_checkpoint(str(checkpoint_copy), tmp_path)
    edit(checkpoint_copy / "tokenizer_config.json", add_bos_token=True, add_eos_token=True)

    after = open_checkpoint(str(checkpoint_copy), tmp_path)

    assert after.query.tokenizer == checkpoint_copy / "tokenizer.json"
    assert after.passage_fingerprint == before.passage_fingerprint
    assert [path.read_text() for path in (tmp_path / "tokenizers").iterdir()] == ["null\n"]


def test_a_tokenizer_that_is_made_is_kept_and_has_a_fingerprint_of_all_its_files(
    tmp_path: Path, vocabularies: dict[str, Path | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"vocab.txt": vocabularies["words"]}
    folder = with_tokenizer(tmp_path / "checkpoint", files, {"do_lower_case": True}, "bert")
    first = open_checkpoint(str(folder), tmp_path / "cache")
    known = first.passage_fingerprint

    with monkeypatch.context() as patch:
        patch.setattr(AutoTokenizer, "from_pretrained", pytest.fail)
        again = open_checkpoint(str(folder), tmp_path / "cache")
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    cased = open_checkpoint(str(folder), tmp_path / "cache")

    assert again == first
    assert cased.passage_fingerprint != known
    assert tokens_of(cased.query.tokenizer) != tokens_of(first.query.tokenizer)


def test_texts_are_lower_cased_as_sentence_transformers_does(
    tmp_path: Path, checkpoint_copy: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    (checkpoint_copy / "manifest.json").unlink()
    plain = open_checkpoint(str(checkpoint_copy), tmp_path)
    edit(checkpoint_copy / "sentence_bert_config.json", do_lower_case=True)

    lowered = open_checkpoint(str(checkpoint_copy), tmp_path)

    theirs = SentenceTransformer(str(checkpoint_copy), device="cpu").tokenizer
    assert tokens_of(lowered.query.tokenizer) == theirs(probe_texts())["input_ids"]
    assert lowered.passage_fingerprint != plain.passage_fingerprint


@pytest.mark.parametrize("tokenizer_class", ["PreTrainedTokenizerFast", "RobertaTokenizer"])
@pytest.mark.parametrize("is_former", [False, True])
def test_tokens_that_other_files_add_are_read(
    tmp_path: Path, checkpoint_copy: Path, tokenizer_class: str, is_former: bool
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    new_id = tiny_tokenizer().get_vocab_size()
    stated = {str(new_id): {"content": "zebrafish", "special": False}}
    edit(
        checkpoint_copy / "tokenizer_config.json",
        tokenizer_class=tokenizer_class,
        added_tokens_decoder=None if is_former else stated,
    )
    if is_former:
        (checkpoint_copy / "added_tokens.json").write_text(json.dumps({"zebrafish": new_id}))

    layout = open_checkpoint(str(checkpoint_copy), tmp_path).query

    theirs = AutoTokenizer.from_pretrained(checkpoint_copy, local_files_only=True)
    text = "the zebrafish swims"
    ids = read_tokenizer(layout.tokenizer).encode(text).ids
    assert ids == theirs(text)["input_ids"]
    assert new_id in ids


def test_added_tokens_that_the_file_has_leave_it_as_it_is(
    tmp_path: Path, checkpoint_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zebrafish"])
    tokenizer.save(str(checkpoint_copy / "tokenizer.json"))
    stated = {"9": {"content": "zebrafish", "normalized": True}}
    edit(checkpoint_copy / "tokenizer_config.json", added_tokens_decoder=stated)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", pytest.fail)

    layout = open_checkpoint(str(checkpoint_copy), tmp_path).query

    assert layout.tokenizer == checkpoint_copy / "tokenizer.json"


@pytest.mark.parametrize(
    ("files", "config", "reason"),
    [
        (
            {},
            {},
            r"tokenizer\.json is missing, and the folder holds no vocabulary to make it from: save",
        ),
        ({"tokenizer.json": "{}"}, {}, r"cannot be read by transformers .*save_pretrained"),
        ({"tokenizer.json": "{}"}, None, r"cannot be read by transformers .*save_pretrained"),
        (
            {"tokenizer.json": "version https://git-lfs.github.com/spec/v1\noid sha256:0"},
            {},
            r"tokenizer\.json is a git-lfs pointer, not the file: run `git lfs pull` in ",
        ),
        (
            {"sentencepiece.bpe.model": "no model"},
            {"tokenizer_class": "XLMRobertaTokenizer"},
            "cannot be read by transformers",
        ),
        (
            {"tokenizer.json": "fast"},
            {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}},
            r"tokenizer_config\.json: `auto_map` asks for remote code, which is never run",
        ),
        (
            {"vocab.txt": VOCABULARY},
            {"tokenizer_class": "BertweetTokenizer"},
            r"has no fast form|cannot be read by transformers",
        ),
        ({"tokenizer.json": "fast"}, {"tokenizer_class": "BertTokenizer"}, "cannot read a text"),
        ({"tokenizer.json": "fast"}, {"tokenizer_class": 3}, "`tokenizer_class` is not text"),
        ({"tokenizer.json": "fast"}, {"add_eos_token": "yes"}, "`add_eos_token` is not true or"),
        ({"tokenizer.json": "fast"}, {"truncation_side": "middle"}, "`truncation_side` must be"),
    ],
)
def test_other_tokenizers_are_refused_by_file_and_reason(
    tmp_path: Path,
    vocabularies: dict[str, Path | str],
    files: dict[str, str],
    config: dict[str, Any] | None,
    reason: str,
) -> None:
    sources = {name: vocabularies.get(kind, kind) for name, kind in files.items()}
    folder = with_tokenizer(tmp_path / "checkpoint", sources, config, "bert")

    with pytest.raises(CheckpointError, match=reason) as caught:
        open_checkpoint(str(folder), tmp_path / "cache")

    assert str(folder) in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, vocabularies: dict[str, Path | str]
) -> None:
    folder = with_tokenizer(tmp_path / "one", {"vocab.txt": vocabularies["words"]}, None, "bert")
    (tmp_path / "cache").write_text("")

    with pytest.raises(CheckpointError, match="cannot be written .*CLEAR_CACHE"):
        open_checkpoint(str(folder), tmp_path / "cache")


@pytest.mark.parametrize("source", ["tokenizer_config.json", "tokenizer.json"])
def test_a_long_text_is_cut_at_the_side_that_the_tokenizer_names(
    checkpoint_copy: Path, source: str
) -> None:
    from sentence_transformers import SentenceTransformer

    from service.retrieval.encoder.loader import load_encoder

    (checkpoint_copy / "manifest.json").unlink()
    if source == "tokenizer.json":
        tokenizer = Tokenizer.from_file(str(checkpoint_copy / source))
        tokenizer.enable_truncation(512, direction="left")
        tokenizer.save(str(checkpoint_copy / source))
    else:
        edit(checkpoint_copy / source, truncation_side="left")
    text = " ".join(map(str, range(200)))

    ours = load_encoder(str(checkpoint_copy), device="cpu").tokenize([text], "query")[0]

    theirs = SentenceTransformer(str(checkpoint_copy), device="cpu")
    assert ours.is_truncated
    assert ours.token_ids == theirs.preprocess([f"query: {text}"])["input_ids"][0].tolist()
