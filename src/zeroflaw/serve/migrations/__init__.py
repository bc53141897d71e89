"""How the history's database came to be, step by step; `zeroflaw.serve.database` runs what is missing."""
