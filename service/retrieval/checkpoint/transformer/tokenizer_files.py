"""Finds a transformer's tokenizer, and makes the one file that reads texts as transformers does.

`tokenizer.json` alone is not always what transformers uses: most tokenizer classes rebuild
normalizer and template from `tokenizer_config.json`, and older checkpoints have the vocabulary
only. Where the two read a text differently, the file that transformers would write is kept in the
cache and read instead.
"""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from unicodedata import category

from tokenizers import Tokenizer

from service.retrieval.checkpoint.transformer.added_tokens import (
    holds_tokens,
    read_added_tokens,
    texts_with,
)
from service.retrieval.checkpoint.transformer.config import FIX, library_violation
from service.retrieval.checkpoint.transformer.tokenizer_config import AddedToken, TokenizerConfig
from service.retrieval.errors import CheckpointError, python_command, quoted
from service.retrieval.storage import artifact, checksums

FAST = "tokenizer.json"
# The files that a tokenizer is read from, and those of vocabularies alone.
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
VOCABULARIES = (
    *("sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model"),
    *("vocab.txt", "vocab.json", "merges.txt", "bpe.codes", "entity_vocab.json"),
)
FILES = (FAST, *SETTINGS, *VOCABULARIES)
# Content of a cache file: the checkpoint's own file needs no conversion and is read.
AS_IT_IS = b"null\n"
EXAMPLES = (
    *(
        "",
        " ",
        "a",
        "Nairobi is the CAPITAL of Kenya.",
        "  two  spaces \t tab\nline ",
        "don't U.S.",
    ),
    *(
        "Où se trouve l'Élysée? İstanbul ıI ẞß ſ",
        "naïve café ﬁne Ａ１ ①",
        "10,000.5% #a @b c_d-e/f",
    ),
    *("女性应该吃多少蛋白质", "東京タワー ｶﾞｰﾅ", "สวัสดีชาวโลก", "한국어 조선말"),
    *("\U0001f600\u200d\U0001f9d1 \ufe0f", "\u00ad\u200b\ufeff zero", "▁a ▁▁b ##c"),
    *("<html> {json: [1, 2]}", "http://example.org/?q=a&b=c"),
)


def find_tokenizer(folder: Path) -> Path:
    """Return `tokenizer.json`, or the vocabulary that one is made from.

    Raises:
        CheckpointError: the folder has neither, or git-lfs has not fetched it.
    """
    for name in (FAST, *VOCABULARIES):
        path = folder / name
        if path.is_file():
            artifact.refuse_pointer(path, CheckpointError)
            return path
    raise CheckpointError(
        f"{folder / FAST} is missing, and the folder holds no vocabulary to make it from: save the "
        "tokenizer beside the weights with transformers' save_pretrained"
    )


def sources_of(folder: Path) -> tuple[Path, ...]:
    """Return the files of a tokenizer that exist in a folder."""
    return tuple(folder / name for name in FILES if (folder / name).is_file())


def resolve_tokenizer(
    tokenizer: Path, config: TokenizerConfig, model: Path, cache: Path, *, lower_case: bool
) -> Path:
    """Return the file to read: the checkpoint's own, or one in the cache where they would differ.

    Args:
        tokenizer: as `find_tokenizer` returns it.
        config: the settings beside it.
        model: the model's `config.json`, which names the architecture.
        cache: the folder of the files made.
        lower_case: whether sentence-transformers lower-cases texts first.

    Raises:
        CheckpointError: transformers cannot read the tokenizer, or only with code that is not run.
    """
    is_fast = tokenizer.name == FAST
    added = read_added_tokens(tokenizer.parent, config)
    takes_file = config.takes_file_as_it_is and not lower_case
    if is_fast and takes_file and (not added or holds_tokens(read_tokenizer(tokenizer), added)):
        return tokenizer
    sources = sources_of(tokenizer.parent)
    made = cache / "tokenizers" / f"{_key(sources, model, lower_case)}.json"
    if not made.is_file():
        other = _make(sources, model, lower_case)
        is_alike = is_fast and _reads_alike(read_tokenizer(tokenizer), other, added)
        _write(made, AS_IT_IS if is_alike else other.to_str().encode())
    return tokenizer if made.read_bytes() == AS_IT_IS else made


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        CheckpointError: it is not one.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception for a bad file
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} is not a tokenizer file ({quoted(reason)}): restore it from a copy"
        ) from None


def _key(sources: tuple[Path, ...], model: Path, lower_case: bool) -> str:
    parts = {
        "files": {path.name: checksums.sha256_of(path) for path in (*sources, model)},
        "lower_case": lower_case,
        "libraries": [version("transformers"), version("tokenizers")],
    }
    return hashlib.sha256(artifact.canonical_json(parts)).hexdigest()[:32]


def _make(sources: tuple[Path, ...], model: Path, lower_case: bool) -> Tokenizer:
    """Return the tokenizer that transformers makes of the files."""
    from transformers import AutoTokenizer

    from service.retrieval.checkpoint.transformer.library import LOADING_ERRORS, quiet_transformers

    folder = sources[0].parent
    with artifact.temporary_links((*sources, model)) as copy, quiet_transformers():
        try:
            made = AutoTokenizer.from_pretrained(
                copy, local_files_only=True, trust_remote_code=False
            )
        except LOADING_ERRORS as error:
            if violation := library_violation(error):
                raise CheckpointError(f"{model}: {violation}: {FIX}") from None
            reason = quoted(next(iter(str(error).strip().splitlines()), type(error).__name__))
            raise CheckpointError(
                f"the tokenizer in {folder} cannot be read by transformers ({reason}): save it "
                f"beside the weights as {FAST}, by `{_command(folder)}`"
            ) from None
    if not made.is_fast:
        raise CheckpointError(
            f"the tokenizer in {folder}, a {type(made).__name__}, has no fast form ({FAST}): use "
            "an encoder whose tokenizer has one"
        )
    tokenizer: Tokenizer = made.backend_tokenizer
    if lower_case:
        _lower_case(tokenizer)
    _check_reads(tokenizer, folder)
    return tokenizer


def _check_reads(tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse a tokenizer that lacks what it needs for any text, such as its unknown token."""
    try:
        tokenizer.encode_batch_fast(EXAMPLES)
    except Exception as error:  # noqa: BLE001  the library raises bare Exception
        raise CheckpointError(
            f"the tokenizer in {folder} cannot read a text ({quoted(str(error))}): restore "
            "tokenizer_config.json from the encoder's own copy"
        ) from None


def _lower_case(tokenizer: Tokenizer) -> None:
    """Lower-case texts before the tokenizer's own normalizer, as sentence-transformers does."""
    from tokenizers.normalizers import Lowercase, Sequence

    own = tokenizer.normalizer
    tokenizer.normalizer = Sequence([Lowercase(), own]) if own else Lowercase()


@lru_cache(maxsize=1)
def probe_texts() -> list[str]:
    """Return the texts on which tokenizers are compared: examples, and every fifth character."""
    points = (chr(point) for point in range(0x20, 0x20000, 5))
    letters = [letter for letter in points if category(letter) not in ("Cn", "Cs", "Co")]
    return [*EXAMPLES, *(" ".join(letters[at : at + 64]) for at in range(0, len(letters), 64))]


def _reads_alike(
    tokenizer: Tokenizer, other: Tokenizer, added: tuple[AddedToken, ...] = ()
) -> bool:
    """Return whether two tokenizers make the same tokens of the probe texts."""
    texts = [*probe_texts(), *texts_with(added)]
    ids = []
    for one in (tokenizer, other):
        truncation = one.truncation
        one.no_truncation()
        one.no_padding()
        ids.append([text.ids for text in one.encode_batch(texts)])
        if truncation:  # its side is read later
            one.enable_truncation(**truncation)
    return ids[0] == ids[1]


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        artifact.replace_file(path, content)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({artifact.write_failure(path.parent, error)}): set "
            "CLEAR_CACHE to a folder that can be written"
        ) from None


def _command(folder: Path) -> str:
    name = str(folder)
    return python_command(
        "from transformers import AutoTokenizer; "
        f"AutoTokenizer.from_pretrained({name!r}).save_pretrained({name!r})"
    )
