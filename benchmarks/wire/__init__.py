"""The thin wire: bytes against quality and agreement, next to codecs of plain clips, and what it costs."""
