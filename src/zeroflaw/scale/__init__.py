"""Judging very many images: stores and tables in, parts of a table out, on processes or a Ray cluster.

`items` says what there is to judge and cuts it into blocks, `judging` turns a block into rows and knows
neither engine nor store, `store` keeps the parts and says what is done, `driving` sees to it that every block
ends up there once.
"""
