import json
import logging
import sys

from service.telemetry.logs import REQUEST_ID, JsonFormatter, TextFormatter


def record_of(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("t").makeRecord(
        "service.x", logging.WARNING, __file__, 1, message, arguments, None, extra=extra or None
    )


def failed_with(message: str) -> logging.LogRecord:
    record = record_of("the batcher broke")
    try:
        raise ValueError(message)
    except ValueError:
        record.exc_info = sys.exc_info()
    return record


def test_a_record_is_one_json_object_with_its_request_and_fields() -> None:
    token = REQUEST_ID.set("order-17")
    try:
        line = JsonFormatter().format(record_of("took %d ms", 5, fields={"status": 200}))
    finally:
        REQUEST_ID.reset(token)

    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "warning",
        "logger": "service.x",
        "message": "took 5 ms",
        "request_id": "order-17",
        "status": 200,
    }


def test_a_record_outside_of_a_request_has_no_id() -> None:
    assert "request_id" not in json.loads(JsonFormatter().format(record_of("ready")))


def test_the_message_of_an_exception_is_not_logged_because_it_may_quote_a_query() -> None:
    for formatter in (JsonFormatter(), TextFormatter("%(message)s")):
        line = formatter.format(failed_with("cannot encode 'a secret question'"))

        assert "secret" not in line
        assert "ValueError" in line
        assert "test_logs.py" in line


def test_a_line_break_in_a_message_does_not_break_the_line() -> None:
    assert "\n" not in JsonFormatter().format(record_of("two\nlines"))
