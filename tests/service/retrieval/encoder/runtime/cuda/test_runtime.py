"""The same assertions on CPU and GPU. Needs no conftest, so that a bare GPU machine can run it."""

import copy
import random
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertConfig, BertModel

from service.retrieval.checkpoint.modules.pooling import Pooling, PoolingMode
from service.retrieval.encoder.batches import Shape
from service.retrieval.encoder.head import Head
from service.retrieval.encoder.runtime.cuda import graph as cuda_graph
from service.retrieval.encoder.runtime.cuda import runtime as cuda_runtime_module
from service.retrieval.encoder.runtime.cuda.buckets import shapes_to_prepare
from service.retrieval.encoder.runtime.cuda.runtime import CudaRuntime, precision_on
from service.retrieval.encoder.runtime.torch import TorchRuntime
from service.retrieval.unit_vectors import is_unit

PAD_ID = 1
MAX_TOKENS = 40
VOCABULARY = 200
# Largest difference of an element of a unit vector; half precision rounds in every layer.
TOLERANCE = {"cpu": 1e-5, "cuda": 2e-2}
Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="module")
def model() -> BertModel:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=PAD_ID,
        initializer_range=0.3,  # texts must differ by more than rounding
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertModel(config).eval()


def cuda_runtime(
    model: BertModel,
    device: torch.device,
    pooling: PoolingMode = "mean",
    max_batch_tokens: int = 256,
) -> CudaRuntime:
    return CudaRuntime(
        copy.deepcopy(model),
        Head(Pooling((pooling,))),
        device,
        max_tokens=MAX_TOKENS,
        max_batch_tokens=max_batch_tokens,
    )


def texts_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(2, VOCABULARY) for _ in range(length)] for length in lengths]


def padded(texts: list[list[int]]) -> Batch:
    length = max(map(len, texts))
    token_ids = np.full((len(texts), length), PAD_ID, dtype=np.int64)
    mask = np.zeros((len(texts), length), dtype=np.int64)
    for row, ids in enumerate(texts):
        token_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return token_ids, mask


def assert_close(found: Tensor, expected: Tensor, device: torch.device) -> None:
    np.testing.assert_allclose(
        found.cpu().numpy(), expected.cpu().numpy(), rtol=0, atol=TOLERANCE[device.type]
    )


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize(
    "lengths", [[1], [16], [17], [40], [3, 16, 9], [40, 2, 17, 39], list(range(1, 41))]
)
def test_embeddings_are_those_of_the_reference(
    model: BertModel, device: torch.device, pooling: PoolingMode, lengths: list[int]
) -> None:
    batch = padded(texts_of(lengths))

    found = cuda_runtime(model, device, pooling).embed(*batch)

    reference = TorchRuntime(model, Head(Pooling((pooling,))), torch.device("cpu")).embed(*batch)
    assert (found.device.type, found.dtype) == (device.type, torch.float32)
    assert_close(found, reference, device)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(lengths), device=device))


def test_a_query_alone_is_the_same_in_any_batch(model: BertModel, device: torch.device) -> None:
    runtime = cuda_runtime(model, device)
    texts = texts_of([5, 30, 12, 1, 40, 16, 7])

    together = runtime.embed(*padded(texts))

    for row, text in enumerate(texts):
        assert_close(together[row], runtime.embed(*padded([text]))[0], device)


def test_a_shape_keeps_nothing_of_the_texts_before(model: BertModel, device: torch.device) -> None:
    runtime = cuda_runtime(model, device)
    batch = padded(texts_of([3, 2], seed=1))
    before = runtime.embed(*batch).clone()

    runtime.embed(*padded(texts_of([16] * 4, seed=2)))
    runtime.embed(*padded(texts_of([16] * 2, seed=3)))

    torch.testing.assert_close(runtime.embed(*batch), before, rtol=0, atol=0)


def test_an_answer_is_not_overwritten_by_the_next_batch(
    model: BertModel, device: torch.device
) -> None:
    runtime = cuda_runtime(model, device)
    first, second = padded(texts_of([16] * 4, seed=1)), padded(texts_of([16] * 4, seed=2))
    runtime.embed(*first)  # the graph is captured now

    answers = [runtime.embed(*(first, second)[turn % 2]) for turn in range(20)]

    assert not torch.equal(answers[0], answers[1])
    for turn, answer in enumerate(answers):
        torch.testing.assert_close(answer, answers[turn % 2], rtol=0, atol=0)


def test_a_batch_over_the_budget_runs_in_pieces_in_order(
    model: BertModel, device: torch.device
) -> None:
    batch = padded(texts_of([7, 33, 20] * 9))

    found = cuda_runtime(model, device, max_batch_tokens=160).embed(*batch)

    assert_close(found, cuda_runtime(model, device, max_batch_tokens=10_000).embed(*batch), device)


def test_shapes_are_made_when_first_met(model: BertModel, device: torch.device) -> None:
    runtime = cuda_runtime(model, device, max_batch_tokens=64)

    runtime.embed(*padded(texts_of([5, 9, 16])))
    runtime.embed(*padded(texts_of([17, 3, 4])))

    # 16 tokens: three rows to four. 32: two rows a piece, so two and one.
    assert runtime.shapes == {Shape(4, 16), Shape(2, 32), Shape(1, 32)}


def test_after_the_warm_up_no_batch_meets_a_new_shape(
    model: BertModel, device: torch.device
) -> None:
    runtime = cuda_runtime(model, device)

    runtime.warm_up(200)

    ready = runtime.shapes
    assert ready == set(shapes_to_prepare(MAX_TOKENS, 200))
    for length in (1, 15, 16, 17, 32, 33, MAX_TOKENS):
        for num_rows in (1, 3, max(1, 200 // length), 50):
            runtime.embed(*padded(texts_of([length] * num_rows)))
    assert runtime.shapes == ready


def test_a_second_warm_up_changes_no_answer(model: BertModel, device: torch.device) -> None:
    runtime, batch = cuda_runtime(model, device), padded(texts_of([5, 40, 16]))
    runtime.warm_up(160)
    before = runtime.embed(*batch).clone()

    runtime.warm_up(80)

    assert_close(runtime.embed(*batch), before, device)


def test_another_thread_than_that_of_the_warm_up_embeds(
    model: BertModel, device: torch.device
) -> None:
    runtime, batch = cuda_runtime(model, device), padded(texts_of([5, 40, 16]))
    runtime.warm_up(256)
    answers = [runtime.embed(*batch).cpu()]

    thread = threading.Thread(target=lambda: answers.append(runtime.embed(*batch).cpu()))
    thread.start()
    thread.join()

    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=0)


def test_no_texts_give_no_embeddings(model: BertModel, device: torch.device) -> None:
    nothing = np.empty((0, 5), dtype=np.int64)

    assert cuda_runtime(model, device).embed(nothing, nothing).shape == (0, 32)


def test_padding_gives_no_nan(model: BertModel, device: torch.device) -> None:
    own = copy.deepcopy(model).to(device).eval()  # type: ignore[arg-type]
    masks = []

    def forward(token_ids: Tensor, mask: Tensor) -> Tensor:
        masks.append(mask)  # the slot's own buffer
        return own(input_ids=token_ids, attention_mask=mask).last_hidden_state[:, 0].float()

    is_cuda = device.type == "cuda"
    stream = torch.cuda.stream(torch.cuda.Stream(device)) if is_cuda else nullcontext()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), stream:
        slot = cuda_graph.Slot(Shape(4, 16), forward, PAD_ID, device)
        slot.fill(*padded(texts_of([3])))
        output = slot.run().clone()
    if is_cuda:
        torch.cuda.synchronize()

    assert output.shape == (4, 32)
    assert bool(output.isfinite().all())
    # Not every attention kernel makes NaN of a row without tokens; the slot must not depend on it.
    assert masks[-1].sum(dim=1).tolist() == [3, 1, 1, 1]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_one_bad_row_of_the_table_spoils_its_own_texts_alone(
    model: BertModel, device: torch.device, value: float
) -> None:
    texts = texts_of([3, 5, 9, 4, 30])
    spoiled = copy.deepcopy(model)
    bad = next(token for token in texts[2] if all(token not in texts[row] for row in (0, 1, 3, 4)))
    spoiled.get_input_embeddings().weight.data[bad] = value

    is_valid = is_unit(cuda_runtime(spoiled, device).embed(*padded(texts))).tolist()

    assert is_valid == [True, True, False, True, True]


def test_a_sum_that_overflows_in_fp16_is_no_unit_vector(
    model: BertModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half precision of GPUs of compute capability 7, here on a CPU."""
    large = copy.deepcopy(model)
    large.encoder.layer[1].output.LayerNorm.weight.data *= 30_000
    batch = padded(texts_of([3, 5]))

    in_fp32 = is_unit(cuda_runtime(large, torch.device("cpu")).embed(*batch)).tolist()
    monkeypatch.setattr(cuda_runtime_module, "precision_on", lambda device: torch.float16)
    in_fp16 = is_unit(cuda_runtime(large, torch.device("cpu")).embed(*batch)).tolist()

    assert (in_fp32, in_fp16) == ([True, True], [False, False])


def test_a_text_over_the_limit_is_refused(model: BertModel, device: torch.device) -> None:
    with pytest.raises(ValueError, match="41 tokens are over"):
        cuda_runtime(model, device).embed(*padded(texts_of([41])))


def test_the_name_tells_the_precision(model: BertModel, device: torch.device) -> None:
    name = cuda_runtime(model, device).name

    assert name == {torch.float32: "torch-graphs-fp32", torch.bfloat16: "torch-graphs-bf16"}.get(
        precision_on(device), "torch-graphs-fp16"
    )


@pytest.mark.parametrize(
    ("capability", "precision"),
    [
        ((6, 1), torch.float32),
        ((7, 0), torch.float16),
        ((7, 5), torch.float16),
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_precision_follows_the_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    assert precision_on(torch.device("cuda")) == precision


def test_only_weights_are_rounded(model: BertModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary frequencies are a buffer; in bf16 they would put long texts at wrong positions."""
    monkeypatch.setattr(
        "service.retrieval.encoder.runtime.cuda.runtime.precision_on", lambda device: torch.bfloat16
    )
    own = copy.deepcopy(model)
    own.register_buffer("inv_freq", torch.tensor([1 / 3]))

    runtime = CudaRuntime(own, Head(), torch.device("cpu"), max_tokens=MAX_TOKENS)

    assert own.inv_freq.dtype == torch.float32
    assert {parameter.dtype for parameter in own.parameters()} == {torch.bfloat16}
    batch = padded(texts_of([5, 40, 16]))
    reference = TorchRuntime(model, Head(), torch.device("cpu")).embed(*batch)
    found = runtime.embed(*batch)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))  # the norm is of fp32
    np.testing.assert_allclose(found, reference, rtol=0, atol=TOLERANCE["cuda"])


class _CudaError(RuntimeError):
    error_code = cuda_graph.CUDA_ERROR_MEMORY_ALLOCATION


def test_out_of_memory_within_a_capture_is_raised_as_itself() -> None:
    with (
        pytest.raises(torch.cuda.OutOfMemoryError, match="8 GiB"),
        cuda_graph.out_of_memory_by_name(),
    ):
        try:
            raise torch.cuda.OutOfMemoryError("tried to allocate 8 GiB")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_out_of_memory_in_cudas_own_words_is_raised_by_name() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError), cuda_graph.out_of_memory_by_name():
        raise _CudaError("CUDA error: out of memory")


def test_any_other_error_of_a_capture_is_raised_as_it_is() -> None:
    with (
        pytest.raises(RuntimeError, match="illegal") as caught,
        cuda_graph.out_of_memory_by_name(),
    ):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    assert type(caught.value) is RuntimeError


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_out_of_memory_reaches_the_caller_and_a_smaller_batch_then_runs(model: BertModel) -> None:
    device = torch.device("cuda")
    runtime = cuda_runtime(model, device, max_batch_tokens=2**18)
    small, large = padded(texts_of([5])), padded(texts_of([40] * 4096))
    runtime.embed(*small)
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 24 * 2**20
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            runtime.embed(*large)
        found = runtime.embed(*small)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    reference = TorchRuntime(model, Head(), torch.device("cpu")).embed(*small)
    assert_close(found, reference, device)
    assert_close(runtime.embed(*large)[:1], runtime.embed(large[0][:1], large[1][:1]), device)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_is_replayed_and_allocates_its_answer_only(model: BertModel) -> None:
    runtime, batch = cuda_runtime(model, torch.device("cuda")), padded(texts_of([16] * 8))
    runtime.warm_up(256)
    runtime.embed(*batch)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]

    runtime.embed(*batch)

    assert torch.cuda.memory_stats()["allocation.all.allocated"] - before == 1


def test_two_sides_share_equal_weights_and_embed_as_each_does_alone(
    model: BertModel, device: torch.device
) -> None:
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.encoder.layer[0].output.dense.weight.mul_(1.5)
    batch = padded(texts_of([5, 9, 30]))
    alone = [cuda_runtime(each, device).embed(*batch) for each in (model, tuned)]

    models = [copy.deepcopy(model), copy.deepcopy(tuned)]
    limits = {"max_tokens": MAX_TOKENS, "max_batch_tokens": 256}
    passage = CudaRuntime(models[0], Head(), device, **limits)
    query = CudaRuntime(models[1], Head(), device, **limits, shared_with=passage)
    together = [(passage.embed(*batch), query.embed(*batch)) for _ in range(2)]

    for found in together:
        for embeddings, expected in zip(found, alone, strict=True):
            assert_close(embeddings, expected, device)
    theirs = dict(models[0].named_parameters())
    own = {
        name
        for name, parameter in models[1].named_parameters()
        if parameter.data_ptr() != theirs[name].data_ptr()
    }
    assert own == {"encoder.layer.0.output.dense.weight"}


def test_graphs_of_an_encoder_that_allows_them_have_no_violation(
    model: BertModel, device: torch.device
) -> None:
    assert cuda_runtime(model, device).graph_violation() is None


def test_an_encoder_that_graphs_change_runs_without_them(
    model: BertModel, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = cuda_runtime(model, device)
    with monkeypatch.context() as patch:
        patch.setattr(cuda_graph.Slot, "run", lambda slot: -slot._compute())
        violation = runtime.graph_violation()
    batch = padded(texts_of([3, 5]))

    found = runtime.without_graphs().embed(*batch)

    assert violation is not None and "cosine to it is -" in violation
    expected = TorchRuntime(model, Head(), torch.device("cpu")).embed(*batch)
    torch.testing.assert_close(found.cpu(), expected, atol=TOLERANCE[device.type], rtol=0)


def test_an_encoder_that_cannot_be_captured_is_told(
    model: BertModel, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(slot: cuda_graph.Slot) -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph.Slot, "run", fail)

    assert cuda_runtime(model, device).graph_violation() == (
        "operation not permitted when stream is capturing"
    )
