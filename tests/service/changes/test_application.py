import pytest

from service.changes.application import RefusedChangeError, _numbered, _refuse
from service.changes.ledger import Accepted
from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import PassageError


def test_a_refusal_names_its_change_and_the_place_of_the_other() -> None:
    batch = [Accepted(number, 1.0, [Passage(str(number), "tea")]) for number in (19, 20)]
    (first, _), (second, _) = _numbered(batch)

    with pytest.raises(RefusedChangeError) as refused:
        _refuse(PassageError(f"{second}: the id 'a#2' of change 1 is that of {first}"))

    assert refused.value.number == 20
    assert refused.value.reason == "put[0]: the id 'a#2' of change 1 is that of put[0] of change 19"
