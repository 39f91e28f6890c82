-- +goose Up

-- Instants are microseconds since 1970, UTC.

-- Accounts. One that is closed keeps its row, without anything personal, so
-- that its id is never another's.
CREATE TABLE users (
    id           TEXT PRIMARY KEY, -- UUIDv7
    email        TEXT   NOT NULL,  -- lower case; empty once closed
    display_name TEXT   NOT NULL,
    roles        TEXT   NOT NULL,  -- with spaces between
    password     TEXT   NOT NULL,  -- argon2id in PHC format; empty once closed
    version      BIGINT NOT NULL,  -- grows with every change; the etag
    create_time  BIGINT NOT NULL,
    update_time  BIGINT NOT NULL,
    login_time   BIGINT,           -- of the last sign-in
    delete_time  BIGINT            -- when it was closed
);
CREATE UNIQUE INDEX users_by_email ON users (email) WHERE delete_time IS NULL;
CREATE INDEX users_by_create_time ON users (create_time, id) WHERE delete_time IS NULL;

-- Sign-ins: a family of refresh tokens, each the successor of another.
CREATE TABLE sessions (
    id            TEXT PRIMARY KEY, -- UUIDv7; "sid" in access tokens
    user_id       TEXT   NOT NULL REFERENCES users (id),
    create_time   BIGINT NOT NULL,
    access_expire BIGINT NOT NULL,  -- when its last access token expires
    expire_time   BIGINT NOT NULL,  -- when its last token of any kind expires
    revoke_time   BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expire ON sessions (expire_time);

-- Refresh tokens, spent ones too: that one comes back is how theft is noticed.
CREATE TABLE refresh_tokens (
    hash        BYTEA PRIMARY KEY, -- SHA-256 of the token
    session_id  TEXT   NOT NULL REFERENCES sessions (id),
    expire_time BIGINT NOT NULL,
    spend_time  BIGINT,            -- null: it is still good
    spend_hash  BYTEA              -- SHA-256 of the token and the request_id that spent it; null: there was none
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_by_expire ON refresh_tokens (expire_time);

-- What only this service knows, shared by its replicas: the private keys that
-- sign access tokens (kind "signing"), and the secret that the successors of
-- refresh tokens are derived with (kind "refresh").
CREATE TABLE secrets (
    kind      TEXT   NOT NULL,
    seq       BIGINT NOT NULL, -- 1, 2, ...: replicas that add the next one at once add one
    from_time BIGINT NOT NULL, -- when its use begins
    cipher    TEXT   NOT NULL, -- "A256GCM" under KEY_ENCRYPTION_KEY; empty: in clear
    value     BYTEA  NOT NULL, -- PKCS #8 of a signing key; the bytes of the secret
    PRIMARY KEY (kind, seq)
);

-- +goose Down
DROP TABLE secrets;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE users;
