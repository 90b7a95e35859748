"""A session with servers: what it sends, what it believes, when it asks again, and what it leaves behind."""
