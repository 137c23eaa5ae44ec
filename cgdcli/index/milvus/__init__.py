"""An index that outgrew one machine: its rows in Milvus, searched there, scored again exactly here.

Both forms are spoken to by one client (extra `milvus`): a server at http://host:19530/collection,
and the embedded one in a folder, gallery.db. What is different is in `layout`.
"""
