-- +goose Up

-- One payment for each order. Beside the states of the contract there are
-- those of a change under way (CAPTURING, VOIDING, REFUNDING): who moves a row
-- into one of them has excluded the others. An order that was voided before it
-- had a payment has a row without a user.
CREATE TABLE payments (
    id            TEXT PRIMARY KEY,
    order_id      TEXT   NOT NULL UNIQUE,
    user_id       TEXT   NOT NULL,
    state         TEXT   NOT NULL CHECK (state IN ('PENDING', 'AUTHORIZED', 'DECLINED', 'CAPTURING', 'CAPTURED',
                                                   'VOIDING', 'VOIDED', 'REFUNDING', 'REFUNDED')),
    currency      TEXT   NOT NULL,
    amount        BIGINT NOT NULL CHECK (amount >= 0), -- micros of the currency's unit
    reason        TEXT   NOT NULL,
    message       TEXT   NOT NULL,
    processor_ref TEXT   NOT NULL, -- "" until the processor has answered
    version       BIGINT NOT NULL,
    create_time   BIGINT NOT NULL, -- microseconds, as all times here
    update_time   BIGINT NOT NULL,
    -- Of a change under way: when the worker is to see to it, which is later
    -- while somebody does; how often it failed; the trace that it belongs to.
    due_time      BIGINT,
    attempts      BIGINT NOT NULL,
    trace         TEXT   NOT NULL
);
CREATE INDEX payments_due ON payments (due_time) WHERE due_time IS NOT NULL;

-- Every movement of money, once.
CREATE TABLE ledger (
    id          TEXT PRIMARY KEY,
    payment_id  TEXT   NOT NULL REFERENCES payments (id),
    kind        TEXT   NOT NULL CHECK (kind IN ('AUTHORIZE', 'CAPTURE', 'VOID', 'REFUND')),
    currency    TEXT   NOT NULL,
    amount      BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    UNIQUE (payment_id, kind)
);

-- The book of the simulated processor. It stands for what a real one keeps
-- elsewhere: nothing joins it, and no transaction spans it and the others.
CREATE TABLE processor_charges (
    key             TEXT PRIMARY KEY,
    ref             TEXT   NOT NULL UNIQUE,
    state           TEXT   NOT NULL CHECK (state IN ('AUTHORIZED', 'DECLINED', 'CAPTURED', 'VOIDED', 'REFUNDED')),
    currency        TEXT   NOT NULL,
    amount          BIGINT NOT NULL,
    reason          TEXT   NOT NULL, -- of DECLINED
    capture_decline TEXT   NOT NULL, -- with which a capture will be declined; "" if it won't
    create_time     BIGINT NOT NULL,
    update_time     BIGINT NOT NULL
);

-- +goose Down
DROP TABLE processor_charges;
DROP TABLE ledger;
DROP TABLE payments;
