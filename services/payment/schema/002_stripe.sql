-- +goose Up

-- What the adapter to Stripe knows of a charge. The intent is written before it is
-- confirmed: one that is not here has moved nothing. A charge that is voided is
-- never confirmed again; if it was voided before it had an intent, that is "".
CREATE TABLE stripe_charges (
    key         TEXT PRIMARY KEY, -- the payment's id
    intent      TEXT    NOT NULL, -- the id of the PaymentIntent
    voided      BOOLEAN NOT NULL,
    create_time BIGINT  NOT NULL
);

-- The webhooks that were acted upon, for as long as Stripe may repeat them.
CREATE TABLE stripe_events (
    id          TEXT PRIMARY KEY,
    type        TEXT   NOT NULL,
    payment_id  TEXT   NOT NULL,
    create_time BIGINT NOT NULL
);
CREATE INDEX stripe_events_age ON stripe_events (create_time);

-- +goose Down
DROP TABLE stripe_events;
DROP TABLE stripe_charges;
