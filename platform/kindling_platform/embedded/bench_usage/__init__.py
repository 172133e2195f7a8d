"""`kindling bench usage`: pages about ten million requests, on a database of their own."""
