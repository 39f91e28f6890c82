-- +goose Up

-- Events that are committed and not yet acknowledged by the broker. Their ids
-- are UUIDv7, so the order of the ids is the order in which they were written.
CREATE TABLE outbox (
    id          TEXT PRIMARY KEY,
    subject     TEXT   NOT NULL,
    payload     BYTEA  NOT NULL,
    headers     TEXT   NOT NULL, -- JSON, the trace context of the writer
    create_time BIGINT NOT NULL  -- microseconds
);

-- The one row says which replica publishes from the outbox, and until when it
-- may without asking again.
CREATE TABLE outbox_lease (
    id          INTEGER PRIMARY KEY,
    owner       TEXT    NOT NULL,
    lease_until BIGINT  NOT NULL -- microseconds
);
INSERT INTO outbox_lease (id, owner, lease_until) VALUES (1, '', 0);

-- Events that have taken effect, by the consumer that handled them.
CREATE TABLE inbox (
    consumer    TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    create_time BIGINT NOT NULL, -- microseconds, when it was handled
    PRIMARY KEY (consumer, id)
);
CREATE INDEX inbox_create_time ON inbox (consumer, create_time);

-- +goose Down
DROP TABLE inbox;
DROP TABLE outbox_lease;
DROP TABLE outbox;
