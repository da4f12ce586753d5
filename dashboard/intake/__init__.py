"""The parts of the Data page: sending files, editing mappings, watching loads, batches, rejects and jobs."""
