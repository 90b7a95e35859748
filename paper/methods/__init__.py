"""The compared methods: encryptions, downsampling, and the table of all."""
