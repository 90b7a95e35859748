"""The thin wire: bytes against quality and agreement, beside codecs of plain clips, and what it costs."""
