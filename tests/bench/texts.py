"""The texts of the requests: XQuAD's questions, and texts of a given length, in eight languages.

The same call always returns the same texts in the same order.
"""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

LANGUAGES = ("en", "ar", "de", "es", "hi", "ru", "vi", "zh")
# The longest deadline that the service accepts.
MAX_TIMEOUT_MS = 60_000
# Offset between the positions of two languages, so that neighbors are not translations.
STRIDE = 149
# Seed of the lengths and positions of `mixed_texts`.
SEED = 20_251


@dataclass(frozen=True, slots=True)
class Text:
    """A text and its language."""

    language: str
    text: str


def xquad_folder() -> Path:
    """Return the default folder of XQuAD's files: `xquad` in the folder that DATA names."""
    return Path(os.environ.get("DATA", "data"), "xquad")


def questions(data: Path) -> list[Text]:
    """Return 9,520 questions; each group of eight has eight languages and different paragraphs."""
    by_language = [_read(data, language, is_question=True) for language in LANGUAGES]
    count = min(map(len, by_language))
    return [
        Text(language, texts[(place + number * STRIDE) % count])
        for place in range(count)
        for number, (language, texts) in enumerate(zip(LANGUAGES, by_language, strict=True))
    ]


def mixed_texts(
    data: Path, tokenizer: Tokenizer, count: int = 4096, shortest: int = 5, longest: int = 400
) -> list[Text]:
    """Return parts of paragraphs, with lengths drawn uniformly from `shortest` to `longest` tokens.

    The lengths include the special tokens, but not the tokens of the prompt.
    """
    generator = random.Random(SEED)
    running = {language: " ".join(_read(data, language, False)) for language in LANGUAGES}
    ids = {language: tokenizer.encode(text) for language, text in running.items()}
    mixed = []
    for place in range(count):
        language = LANGUAGES[place % len(LANGUAGES)]
        length = generator.randint(shortest, longest)
        offsets = ids[language].offsets[1:-1]  # without <s> and </s>
        first = generator.randrange(len(offsets) - length)
        start, end = offsets[first][0], offsets[first + length - 3][1]
        mixed.append(Text(language, running[language][start:end].strip()))
    return mixed


def search_bodies(texts: Sequence[Text], timeout_ms: int | None = None) -> list[bytes]:
    """Return bodies of /search: top 10; every second group of eight declares its language."""
    bodies = []
    for place, each in enumerate(texts):
        body: dict[str, object] = {"query": each.text}
        if place // len(LANGUAGES) % 2:
            body["language"] = each.language
        if timeout_ms:
            body["timeout_ms"] = timeout_ms
        bodies.append(_json(body))
    return bodies


def encode_bodies(texts: Sequence[Text], role: str, texts_per_body: int = 1) -> list[bytes]:
    """Return bodies of /encode with the longest deadline, so that a saturated service accepts."""
    groups = [
        texts[start : start + texts_per_body] for start in range(0, len(texts), texts_per_body)
    ]
    return [
        _json({"texts": [each.text for each in group], "role": role, "timeout_ms": MAX_TIMEOUT_MS})
        for group in groups
    ]


def infinity_bodies(texts: Sequence[Text], model: str) -> list[bytes]:
    """Return bodies of Infinity's /embeddings; they contain E5's prompt, which ours adds."""
    return [_json({"model": model, "input": f"query: {each.text}"}) for each in texts]


def write_bodies(bodies: Sequence[bytes], path: Path) -> Path:
    """Write bodies for wrk, one per line; return the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(bodies) + b"\n")
    return path


def _json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _read(data: Path, language: str, is_question: bool) -> list[str]:
    path = data / f"xquad.{language}.json"
    if not path.is_file():
        raise SystemExit(
            f"{path} is missing: name XQuAD's folder with --data, or its parent by DATA"
        )
    articles = json.loads(path.read_bytes())["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    if not is_question:
        return [str(paragraph["context"]) for paragraph in paragraphs]
    return [str(asked["question"]) for paragraph in paragraphs for asked in paragraph["qas"]]
