"""The Milvus backend; nothing else imports pymilvus."""
