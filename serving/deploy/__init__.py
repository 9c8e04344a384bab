"""Files that deploy an exported model on TensorFlow Serving, written beside its versions.

Templates are `docker-compose.yaml.j2` and `kubernetes.yaml.j2`; `Dockerfile` builds a server with
ScaNN's ops.
"""
