"""Celery with nothing but a task that does nothing, and with what its tools need: it is to be looked at by Flower."""

# mypy: disallow-untyped-decorators=False
import os

from celery import Celery

QUEUE = "celery"
app = Celery("idle", broker=os.environ.get("JOBLEASE_AMQP_URL"))
app.conf.update(task_acks_late=True, task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="nothing")
def nothing() -> None:
    """Nothing."""
