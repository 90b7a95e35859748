"""``lcve web``: serve the page on the machine of the key's holder, and pass its requests on.

The page encrypts clips in the browser, so this package never receives a key.
"""
