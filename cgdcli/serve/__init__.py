"""A page to search an index with, and the same over HTTP as JSON. Extra `serve`.

- `searching`: one thread that has the index and the network; what waits is answered together.
- `limits`: who may ask, how much and how often.
- `app`: the addresses (FastAPI).
- `page.html`: the page, one file; it asks for nothing from elsewhere.
"""
