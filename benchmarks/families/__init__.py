"""What families of full size cost: exports, answers, memory and engines."""
