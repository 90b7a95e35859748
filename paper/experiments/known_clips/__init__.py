"""What known clips give of every encryption: the attacks, and what they recover."""
