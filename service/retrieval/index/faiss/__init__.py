"""The FAISS backend; nothing else imports faiss."""
