"""Many cells: how they are listed, started, watched and taken up again."""
