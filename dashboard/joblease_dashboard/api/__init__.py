"""The audit API: answers in JSON, and what the pages ask in the same way."""
