-- +goose Up

-- The catalog. A deleted product stays as a row: its id is not forgotten, so
-- that deleting it again succeeds, and its sku is not given to another one.
CREATE TABLE products (
    id             TEXT PRIMARY KEY,     -- UUIDv7: in the order of creation
    sku            TEXT   NOT NULL UNIQUE,
    name           TEXT   NOT NULL,
    description    TEXT   NOT NULL,
    category       TEXT   NOT NULL,
    price_currency TEXT   NOT NULL,
    price_micros   BIGINT NOT NULL,      -- millionths of the currency's unit
    image          TEXT   NOT NULL,
    version        BIGINT NOT NULL,      -- one more with every change; makes the etag
    create_time    BIGINT NOT NULL,      -- microseconds
    update_time    BIGINT NOT NULL,      -- microseconds
    delete_time    BIGINT                -- microseconds; NULL while it is in the catalog
);

-- One for every field that a list can be sorted by or be picked out with, and
-- one for the list that shops show most: a category by price. They end with the
-- id, which makes the order of a list total, and leave out what no list shows.
CREATE INDEX products_category ON products (category, id) WHERE delete_time IS NULL;
CREATE INDEX products_category_price ON products (category, price_micros, id) WHERE delete_time IS NULL;
CREATE INDEX products_price ON products (price_micros, id) WHERE delete_time IS NULL;
CREATE INDEX products_name ON products (name, id) WHERE delete_time IS NULL;
CREATE INDEX products_create_time ON products (create_time, id) WHERE delete_time IS NULL;
CREATE INDEX products_update_time ON products (update_time, id) WHERE delete_time IS NULL;

-- The one row is there once the catalog file has been imported, or was found
-- not to be needed.
CREATE TABLE seed (
    id        INTEGER PRIMARY KEY,
    seed_time BIGINT NOT NULL -- microseconds
);

-- +goose Down
DROP TABLE seed;
DROP TABLE products;
