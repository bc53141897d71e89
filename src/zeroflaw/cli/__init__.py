"""The verbs of the command, one file each; nothing heavy is imported before a verb runs."""
