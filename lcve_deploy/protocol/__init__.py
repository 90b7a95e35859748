"""Parts of the Open Inference Protocol (v2) that server, client and exporter share."""
