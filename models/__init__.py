"""The networks of the example jobs, apart from the job files so that submitting a job does not load torch."""
