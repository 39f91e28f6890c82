-- +goose Up

-- Instants are microseconds since 1970, amounts micros of the currency's unit.
CREATE TABLE orders (
    id               TEXT    PRIMARY KEY, -- UUIDv7
    user_id          TEXT    NOT NULL,
    request_id       TEXT    NOT NULL, -- of CreateOrder, unique for the user
    fingerprint      BYTEA   NOT NULL, -- of that request's body
    state            TEXT    NOT NULL, -- as in order.v1.Order.State
    reason           TEXT    NOT NULL,
    message          TEXT    NOT NULL,
    currency         TEXT    NOT NULL,
    total            BIGINT  NOT NULL,
    payment_id       TEXT    NOT NULL, -- '' until there is one
    traceparent      TEXT    NOT NULL, -- of CreateOrder (W3C Trace Context)
    version          BIGINT  NOT NULL, -- rises with every change of the state
    create_time      BIGINT  NOT NULL,
    update_time      BIGINT  NOT NULL, -- of the last change of the state
    -- The saga.
    step             TEXT    NOT NULL, -- what is tried next, and may have happened
    attempts         BIGINT  NOT NULL, -- of this step, that had no outcome
    due_time         BIGINT,           -- when a worker takes the order up; NULL: at rest
    payment_token    TEXT    NOT NULL, -- '' once it is not needed any more
    stock_committed  BOOLEAN NOT NULL,
    payment_captured BOOLEAN NOT NULL,
    revision         BIGINT  NOT NULL, -- rises with every write: who read an older one must not write
    UNIQUE (user_id, request_id)
);
-- For the workers: only orders that a saga still works at.
CREATE INDEX orders_due ON orders (due_time) WHERE due_time IS NOT NULL;
-- For lists: a user's own, and an administrator's of all.
CREATE INDEX orders_user_create_time ON orders (user_id, create_time, id);
CREATE INDEX orders_user_update_time ON orders (user_id, update_time, id);
CREATE INDEX orders_create_time ON orders (create_time, id);
CREATE INDEX orders_update_time ON orders (update_time, id);

-- What is ordered, as it was then.
CREATE TABLE order_items (
    order_id   TEXT   NOT NULL REFERENCES orders (id),
    position   BIGINT NOT NULL, -- in the request, from 0
    product_id TEXT   NOT NULL,
    sku        TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    quantity   BIGINT NOT NULL,
    unit_price BIGINT NOT NULL, -- in the order's currency
    PRIMARY KEY (order_id, position)
);

-- The states that an order has passed through.
CREATE TABLE order_changes (
    order_id    TEXT   NOT NULL REFERENCES orders (id),
    version     BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    change_time BIGINT NOT NULL,
    PRIMARY KEY (order_id, version)
);

-- +goose Down
DROP TABLE order_changes;
DROP TABLE order_items;
DROP TABLE orders;
