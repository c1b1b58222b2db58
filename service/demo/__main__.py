"""Write the demo's published vectors: `python -m service.demo`, in fp32 with PyTorch."""

from service.demo.factbook import factbook_passages
from service.demo.sentences import SENTENCES, write_sentences
from service.demo.vectors import VECTORS, write_vectors
from service.retrieval.defaults import BUNDLED_BASE
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.progress import show_progress

if __name__ == "__main__":
    with show_progress() as on_progress:
        encoder = load_encoder(BUNDLED_BASE, device="cpu")
        passages = [passage for _, passage in factbook_passages()]
        write_vectors(passages, encoder, VECTORS, on_progress)
        write_sentences(passages, encoder, SENTENCES, on_progress)
