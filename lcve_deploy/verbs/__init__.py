"""The owner's verbs, which join the rooms from top to bottom: ``export`` and ``verify``."""
