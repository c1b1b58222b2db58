"""The Milvus backend; only this folder imports pymilvus."""
