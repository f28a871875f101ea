"""gunicorn as NEMO is run with it: one preloaded application, several processes with threads."""

preload_app = True
worker_class = "gthread"
workers = 2
threads = 4
timeout = 120
graceful_timeout = 3
