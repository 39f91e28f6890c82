-- +goose Up

-- What there is of each product. That the sum holds and nothing is negative is
-- for the engine to see to, whatever the code does.
CREATE TABLE stock (
    product_id   TEXT PRIMARY KEY,
    available    BIGINT  NOT NULL CHECK (available >= 0),
    reserved     BIGINT  NOT NULL CHECK (reserved >= 0),
    sold         BIGINT  NOT NULL CHECK (sold >= 0),
    stocked      BIGINT  NOT NULL CHECK (stocked <= 2147483647), -- an int32 of the contract
    discontinued BOOLEAN NOT NULL,
    product_time BIGINT  NOT NULL DEFAULT 0, -- update_time of the product as it was last heard of
    version      BIGINT  NOT NULL,
    create_time  BIGINT  NOT NULL, -- microseconds, as all times here
    update_time  BIGINT  NOT NULL,
    CHECK (available + reserved + sold = stocked)
);

-- What became of each order's reservation. An order that was released before
-- it had reserved anything has a row as well: its reservation comes too late.
CREATE TABLE reservations (
    order_id    TEXT PRIMARY KEY,
    state       TEXT   NOT NULL CHECK (state IN ('RESERVED', 'COMMITTED', 'RELEASED', 'RETURNED')),
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

CREATE TABLE reservation_items (
    order_id   TEXT   NOT NULL REFERENCES reservations (order_id),
    product_id TEXT   NOT NULL REFERENCES stock (product_id),
    quantity   BIGINT NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);

-- Up to where the counts of each warehouse are stored.
CREATE TABLE sync_sources (
    source        TEXT PRIMARY KEY,
    last_sequence BIGINT NOT NULL,
    update_time   BIGINT NOT NULL
);

-- +goose Down
DROP TABLE sync_sources;
DROP TABLE reservation_items;
DROP TABLE reservations;
DROP TABLE stock;
