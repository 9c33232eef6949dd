"""Benchmarks of fastact: speed beside its peers, and accuracy over every float32."""
