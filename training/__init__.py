"""The recipe of the bundled "mini" model: from nothing to its files. Not shipped in the wheel."""
